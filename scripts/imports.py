"""What `layerdex` imports: read from the source, never by importing it.

Imports inside functions and under ``TYPE_CHECKING`` count as much as those at the top of a file. So
do calls of ``import_module`` with a literal or an f-string. `FLOORS` is the order that
`tests.test_architecture` enforces and `scripts.draw_architecture` draws.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = "layerdex"

# Top to bottom. A room imports from lower floors only, never from another room on its own floor.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("__init__", "sklearn"),
    ("index",),
    ("search", "indexer"),
    ("storage",),
    (
        "arguments",
        "choices",
        "cpu",
        "errors",
        "forks",
        "layers",
        "limits",
        "missing",
        "options",
        "predicates",
        "progress",
        "records",
        "removals",
        "tabular",
        "tag_schemes",
        "terminals",
        "threads",
        "wording",
    ),
)
FOUNDATIONS = FLOORS[-1]

# Folders whose files are nodes of their own among packages. `engines` is one of them because its
# factory imports every engine and every engine imports its protocol.
ROOMS = ("cli", "index", "search", "indexer", "indexer.engines", "storage")


@dataclass(frozen=True, slots=True, order=True)
class Import:
    """One import statement: two dotted module names and the line of the first one's file."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        """Return the import as an error message shows it."""
        return f"{self.importer}:{self.line} imports {self.imported}"


Graph = Mapping[str, frozenset[str]]


def list_modules(root: Path = REPOSITORY) -> dict[str, Path]:
    """Return the files of the package under ``root`` by dotted module name, sorted."""
    modules = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def read_imports(root: Path = REPOSITORY) -> list[Import]:
    """Return every import in the package under ``root``, sorted.

    ``from a import b`` leads to ``a.b`` where that is a module, else to ``a``. A name from outside
    the package is reduced to its top-level name, such as ``numpy``.
    """
    modules = list_modules(root)
    imports = set()
    for module, path in modules.items():
        is_package = path.name == "__init__.py"
        for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
            for name in _imported_names(node, module=module, is_package=is_package):
                for target in _resolve(name, modules):
                    imports.add(Import(module, target, getattr(node, "lineno", 0)))
    return sorted(imports)


def _imported_names(node: ast.AST, *, module: str, is_package: bool) -> Iterator[str]:
    """Yield the dotted names that a statement or call imports; an f-string's gaps become ``*``."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=origin, names=names, level=level):
            parts = module.split(".")
            anchor = parts[: len(parts) - level + is_package] if level else []
            origin_parts = origin.split(".") if origin else []
            for alias in names:
                ending = [] if alias.name == "*" else [alias.name]
                yield ".".join([*anchor, *origin_parts, *ending])
        case ast.Call(func=ast.Name(id="import_module") | ast.Attribute(attr="import_module")):
            match node.args[:1]:
                case [ast.Constant(value=str(name))]:
                    yield name
                case [ast.JoinedStr(values=pieces)]:
                    yield "".join(
                        str(piece.value) if isinstance(piece, ast.Constant) else "*"
                        for piece in pieces
                    )


def _resolve(name: str, modules: Iterable[str]) -> Iterator[str]:
    """Yield the modules that a dotted name or pattern stands for."""
    if name.split(".", maxsplit=1)[0] != PACKAGE:
        yield name.split(".", maxsplit=1)[0]
    elif "*" in name:
        yield from (module for module in modules if fnmatchcase(module, name))
    elif name in modules:
        yield name
    else:
        yield from _resolve(name.rpartition(".")[0], modules)


def room_of(module: str) -> str:
    """Return the room of a module: a folder or file at the package's top level."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def floor_of(module: str) -> int:
    """Return the index in `FLOORS` of a module's room; `KeyError` if the room is on no floor."""
    floors = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    return floors[room_of(module)]


def package_of(module: str, root: Path = REPOSITORY) -> str:
    """Return the package of a module: a sub-package of a room, or the module itself.

    Everything below a sub-package belongs to it: ``layerdex.storage.catalog.migrations.env`` is in
    ``layerdex.storage.catalog``.
    """
    for room in sorted(ROOMS, key=len, reverse=True):
        prefix = f"{PACKAGE}.{room}."
        if module.startswith(prefix):
            child = prefix + module.removeprefix(prefix).split(".")[0]
            return child if (root / child.replace(".", "/")).is_dir() else module
    return module


def is_internal(name: str) -> bool:
    """Return whether a module belongs to the package."""
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


def module_graph(imports: Iterable[Import]) -> Graph:
    """Return the modules of the package that each module imports."""
    return _graph((each.importer, each.imported) for each in imports if is_internal(each.imported))


def package_graph(imports: Iterable[Import], root: Path = REPOSITORY) -> Graph:
    """Return the packages that each package imports, itself left out."""
    edges = (
        (package_of(each.importer, root), package_of(each.imported, root))
        for each in imports
        if is_internal(each.imported)
    )
    return _graph((importer, imported) for importer, imported in edges if importer != imported)


def room_graph(imports: Iterable[Import]) -> Graph:
    """Return the rooms that each room imports, itself left out."""
    edges = (
        (room_of(each.importer), room_of(each.imported))
        for each in imports
        if is_internal(each.imported)
    )
    return _graph((importer, imported) for importer, imported in edges if importer != imported)


def _graph(edges: Iterable[tuple[str, str]]) -> Graph:
    targets: dict[str, set[str]] = {}
    for importer, imported in edges:
        targets.setdefault(importer, set()).add(imported)
    return {importer: frozenset(targets[importer]) for importer in sorted(targets)}


def find_circles(graph: Graph) -> list[list[str]]:
    """Return a shortest circle through each node that lies on one, each circle once.

    A circle starts at its alphabetically first node: ``[a, b]`` is a → b → a.
    """
    circles = set()
    for start in sorted(graph):
        circle = _shortest_circle(graph, start)
        if circle:
            first = circle.index(min(circle))
            circles.add((*circle[first:], *circle[:first]))
    return [list(circle) for circle in sorted(circles)]


def _shortest_circle(graph: Graph, start: str) -> list[str]:
    """Return the shortest path from a node back to itself by breadth-first search, or nothing."""
    paths = deque([[start]])
    seen = set()
    while paths:
        path = paths.popleft()
        for target in sorted(graph.get(path[-1], ())):
            if target == start:
                return path
            if target not in seen:
                seen.add(target)
                paths.append([*path, target])
    return []


def find_upward(imports: Iterable[Import]) -> list[Import]:
    """Return the imports that lead to a higher floor or to another room on the same floor.

    The rooms of the lowest floor may import each other. A room that is on no floor raises
    `KeyError`.
    """
    return [
        each
        for each in imports
        if is_internal(each.imported)
        and room_of(each.importer) != room_of(each.imported)
        and not _leads_down(floor_of(each.importer), floor_of(each.imported))
    ]


def _leads_down(importer: int, imported: int) -> bool:
    return importer < imported or importer == imported == len(FLOORS) - 1


def external_imports(module: str, imports: Iterable[Import]) -> frozenset[str]:
    """Return the packages outside of `layerdex` that importing a module needs, also indirectly."""
    targets: dict[str, set[str]] = {}
    for each in imports:
        targets.setdefault(each.importer, set()).add(each.imported)
    reached, waiting = {module}, [module]
    while waiting:
        new = targets.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += [name for name in new if is_internal(name)]
    return frozenset(name for name in reached if not is_internal(name))
