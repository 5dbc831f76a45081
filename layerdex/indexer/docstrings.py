"""The demo corpus: docstrings of the standard library, parsed from source without importing."""

from __future__ import annotations

import ast
import gc
import logging
import os
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path, PurePosixPath

from layerdex.errors import SourceError
from layerdex.records import Origin, SourceDocument

logger = logging.getLogger(__name__)

# Installed packages, test suites (``idle_test`` is idlelib's), ensurepip's bundled wheels and the
# frozen-module fixture; ``config-*`` (files of the C build) is matched by its prefix.
_SKIPPED_FOLDERS = frozenset(
    {
        "__phello__",
        "__pycache__",
        "_bundled",
        "dist-packages",
        "idle_test",
        "site-packages",
        "test",
        "tests",
    }
)


class Kind(StrEnum):
    """What a docstring describes."""

    MODULE = "module"
    CLASS = "class"
    FUNCTION = "function"
    METHOD = "method"


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_Definition = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# The fields with statements, in source order; most of a tree are expressions, which have none.
_BLOCKS = ("body", "cases", "handlers", "orelse", "finalbody")


def collect_docstrings(folder: Path | None = None) -> Iterator[SourceDocument]:
    """Yield the docstrings below ``folder``, by default the running Python's standard library.

    Documents are ordered by path and line. The id is the qualified name, such as
    ``string.Formatter`` (a nested function is ``outer.inner``), followed by ``@LINE`` if an earlier
    document has that name; the label is the top-level module or package; the metadata fields are
    ``file`` (relative to ``folder``), ``line`` (from 1) and ``kind``. Test suites, installed
    packages, files that do not parse or decode, blank docstrings, and those with a NUL or a lone
    surrogate are skipped. Raises `SourceError` for a folder or file that cannot be read.
    """
    root = Path(sysconfig.get_path("stdlib")) if folder is None else folder
    if not root.is_dir():
        raise SourceError(f"{root} is not a folder of Python source files")
    return _with_unique_ids(_collect(root))


def _collect(root: Path) -> Iterator[SourceDocument]:
    for file in _source_files(root):
        module = _module_name(file)
        tree = _parse(root / file)
        if tree is None or not module:
            continue
        label = module.partition(".")[0]
        for node, name, kind in _definitions(tree, module):
            text = ast.get_docstring(node) or ""
            if not text.strip() or not _is_storable(text):
                continue
            line = 1 if isinstance(node, ast.Module) else node.lineno
            yield SourceDocument(
                text=text,
                id=name,
                label=label,
                metadata={"file": str(file), "line": line, "kind": kind.value},
                origin=Origin(str(root / file), line),
            )


def _with_unique_ids(documents: Iterator[SourceDocument]) -> Iterator[SourceDocument]:
    seen: set[str | None] = set()
    for document in documents:
        unique = document.id
        # Repeated only for equal names on one line, as in ``x.py`` and ``x/__init__.py``.
        while unique in seen:
            unique = f"{unique}@{document.origin.line}"
        seen.add(unique)
        yield replace(document, id=unique)


def _source_files(root: Path) -> list[PurePosixPath]:
    """Return the paths of the source files relative to ``root``, sorted as text."""
    paths: list[str] = []
    for parent, folders, files in os.walk(root, onerror=_raise_unreadable):
        folders[:] = [name for name in folders if not _is_skipped(name)]
        relative = Path(parent).relative_to(root)
        paths += [(relative / name).as_posix() for name in files if name.endswith(".py")]
    return [PurePosixPath(path) for path in sorted(paths)]


def _is_skipped(folder_name: str) -> bool:
    return folder_name in _SKIPPED_FOLDERS or folder_name.startswith("config-")


def _raise_unreadable(error: OSError) -> None:
    raise SourceError(f"cannot read {error.filename}: {error.strerror}") from error


def _module_name(file: PurePosixPath) -> str:
    """Return the module of a file; it is empty for an ``__init__.py`` at the root."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _parse(path: Path) -> ast.Module | None:
    """Parse a file; None if it is not valid source for this version of Python."""
    try:
        source = path.read_bytes()
    except OSError as error:
        _raise_unreadable(error)
    try:
        # Old files hold invalid escapes; a filter of "error" would make each a SyntaxError.
        with warnings.catch_warnings(), _without_collection():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    # ValueError is for NUL bytes (Python 3.11), the last two are for deep nesting.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        logger.debug("skipping %s: %s", path, error)
        return None


@contextmanager
def _without_collection() -> Iterator[None]:
    """Disable the garbage collector, which would traverse many nodes but find no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _definitions(tree: ast.Module, module: str) -> Iterator[tuple[_Documented, str, Kind]]:
    """Yield the module and every class and function in it, in source order.

    It uses a stack, as the tree of a long ``elif`` chain is too deep for recursion.
    """
    yield tree, module, Kind.MODULE
    stack: list[tuple[ast.AST, str, bool]] = [(tree, module, False)]
    while stack:
        node, scope, in_class = stack.pop()
        if isinstance(node, _Definition):
            scope = f"{scope}.{node.name}"
            yield node, scope, _kind(node, in_class=in_class)
            in_class = isinstance(node, ast.ClassDef)
        children = [child for block in _BLOCKS for child in getattr(node, block, ())]
        stack += [(child, scope, in_class) for child in reversed(children)]


def _kind(node: ast.AST, *, in_class: bool) -> Kind:
    if isinstance(node, ast.ClassDef):
        return Kind.CLASS
    return Kind.METHOD if in_class else Kind.FUNCTION


def _is_storable(text: str) -> bool:
    """Return whether a text has no NUL or lone surrogate; SQLite and tokenizers reject these."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
