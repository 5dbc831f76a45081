"""The demo corpus, on a made-up library and on the real one."""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from pathlib import Path

import pytest

from layerdex.errors import SourceError
from layerdex.indexer.docstrings import collect_docstrings
from layerdex.records import Origin, SourceDocument

PACKAGE = '''\
"""The package.

    An indented example.
"""

import sys

if sys.platform == "win32":
    def where():
        """On Windows."""
elif sys.platform == "darwin":
    async def where():
        """On a Mac."""
else:
    def where():
        """Elsewhere."""


@decorator
@decorator
class Shape:
    """A shape."""

    size = lambda self: 0

    def blank(self):
        """   """

    def bare(self):
        return 1

    @property
    def area(self):
        """The area."""

        def inner():
            """Nested in a method."""

        class Local:
            """A class in a method."""

            def method(self):
                """A method of it."""

    @area.setter
    def area(self, value):
        """Set the area."""

    try:
        def tried(self):
            """Tried."""
    except ImportError:
        def tried(self):
            """Caught."""
    else:
        def tried(self):
            """Not caught."""
    finally:
        def last(self):
            """At last."""
    match size:
        case 1:
            def matched(self):
                """Matched."""
'''


def write(root: Path, path: str, source: str | bytes) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(source if isinstance(source, bytes) else source.encode())


def collect(root: Path) -> list[SourceDocument]:
    return list(collect_docstrings(root))


def ids(root: Path) -> list[str | None]:
    return [document.id for document in collect(root)]


def test_definitions_come_in_source_order_with_id_line_kind_and_text(tmp_path: Path) -> None:
    write(tmp_path, "pkg/__init__.py", PACKAGE)
    rows = [(d.id, d.metadata["line"], d.metadata["kind"], d.text) for d in collect(tmp_path)]
    assert rows == [
        ("pkg", 1, "module", "The package.\n\nAn indented example."),
        ("pkg.where", 9, "function", "On Windows."),
        ("pkg.where@12", 12, "function", "On a Mac."),
        ("pkg.where@15", 15, "function", "Elsewhere."),
        ("pkg.Shape", 21, "class", "A shape."),
        ("pkg.Shape.area", 33, "method", "The area."),
        ("pkg.Shape.area.inner", 36, "function", "Nested in a method."),
        ("pkg.Shape.area.Local", 39, "class", "A class in a method."),
        ("pkg.Shape.area.Local.method", 42, "method", "A method of it."),
        ("pkg.Shape.area@46", 46, "method", "Set the area."),
        ("pkg.Shape.tried", 50, "method", "Tried."),
        ("pkg.Shape.tried@53", 53, "method", "Caught."),
        ("pkg.Shape.tried@56", 56, "method", "Not caught."),
        ("pkg.Shape.last", 59, "method", "At last."),
        ("pkg.Shape.matched", 63, "method", "Matched."),
    ]


def test_document_carries_label_metadata_and_origin(tmp_path: Path) -> None:
    write(tmp_path, "pkg/sub/deep.py", '\nclass A:\n    def f(self):\n        "Text."\n')
    assert collect(tmp_path) == [
        SourceDocument(
            text="Text.",
            id="pkg.sub.deep.A.f",
            label="pkg",
            metadata={"file": "pkg/sub/deep.py", "line": 3, "kind": "method"},
            origin=Origin(str(tmp_path / "pkg/sub/deep.py"), 3),
        )
    ]


def test_files_are_named_as_modules_and_sorted_by_path(tmp_path: Path) -> None:
    for path in ("zed.py", "pkg/b.py", "pkg/__main__.py", "pkg/__init__.py", "pkg/a/x.py", "a.py"):
        write(tmp_path, path, f'"""{path}"""')
    write(tmp_path, "__init__.py", '"""Of no module."""')
    write(tmp_path, "a.pyi", '"""A stub."""')
    found = [(d.id, d.label, d.text) for d in collect(tmp_path)]
    assert found == [
        ("a", "a", "a.py"),
        ("pkg", "pkg", "pkg/__init__.py"),
        ("pkg.__main__", "pkg", "pkg/__main__.py"),
        ("pkg.a.x", "pkg", "pkg/a/x.py"),
        ("pkg.b", "pkg", "pkg/b.py"),
        ("zed", "zed", "zed.py"),
    ]


def test_module_and_package_of_one_name_have_distinct_ids(tmp_path: Path) -> None:
    write(tmp_path, "same.py", '"""Module."""')
    write(tmp_path, "same/__init__.py", '"""Package."""')
    write(tmp_path, "twice.py", 'def f(): "x"\n' + 'def g(): "y"\n')
    write(tmp_path, "twice/__init__.py", 'def f(): "z"\n')
    assert ids(tmp_path) == ["same", "same@1", "twice.f", "twice.g", "twice.f@1"]


def test_third_namesake_on_the_same_line_is_still_unique(tmp_path: Path) -> None:
    write(tmp_path, "m.py", 'if x:\n    def f(): "a"\nelse:\n    def f(): "b"\n')
    write(tmp_path, "m/__init__.py", '\n\n\ndef f(): "c"\n')
    assert ids(tmp_path) == ["m.f", "m.f@4", "m.f@4@4"]


@pytest.mark.parametrize(
    "folder",
    [
        "site-packages",
        "dist-packages",
        "test",
        "pkg/test",
        "lib2to3/tests",
        "idlelib/idle_test",
        "ensurepip/_bundled",
        "__phello__",
        "pkg/__pycache__",
        "config-3.11-x86_64-linux-gnu",
    ],
)
def test_folder_is_left_out_below_but_not_above_the_root(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "site-packages" / "tests"
    write(root, f"{folder}/inside/m.py", '"""Left out."""')
    write(root, "testing/m.py", '"""Kept."""')
    assert ids(root) == ["testing.m"]


@pytest.mark.parametrize(
    "source",
    [
        '"""Python 2."""\nprint "hello"\n',
        b'"""caf\xe9, not UTF-8."""\n',
        b'# -*- coding: no-such-codec -*-\n"""Text."""\n',
        b'"""A NUL byte \0 in the file."""\n',
        '"""A NUL escape \\0 in the text."""\n',
        '"""A lone surrogate \\udc80 in the text."""\n',
        '""" \\n \\t """\n',
        '"""Too deep to parse."""\n' + "-" * 10_000 + "1\n",
        'b"""Bytes."""\n',
        'f"""Formatted {1}."""\n',
        "",
    ],
)
def test_file_without_a_usable_docstring_is_left_out(tmp_path: Path, source: str | bytes) -> None:
    write(tmp_path, "bad.py", source)
    write(tmp_path, "good.py", '"""Good."""')
    assert ids(tmp_path) == ["good"]


def test_declared_encoding_and_byte_order_mark_are_honoured(tmp_path: Path) -> None:
    write(tmp_path, "bom.py", b'\xef\xbb\xbf"""Na\xc3\xafve."""')
    write(tmp_path, "latin.py", b'# -*- coding: latin-1 -*-\n"""Caf\xe9."""')
    assert [d.text for d in collect(tmp_path)] == ["Naïve.", "Café."]


def test_invalid_escape_neither_warns_nor_loses_the_file(tmp_path: Path) -> None:
    write(tmp_path, "old.py", '"""A regex: \\d+"""\n')
    filters = list(warnings.filters)
    documents = collect_docstrings(tmp_path)
    assert next(documents).text == "A regex: \\d+"
    assert list(warnings.filters) == filters  # restored while the generator is suspended


def test_long_elif_chain_is_walked(tmp_path: Path) -> None:
    branches = "".join(f'elif x == {n}:\n    def f{n}(): "f"\n' for n in range(900))
    write(tmp_path, "chain.py", f"if x:\n    pass\n{branches}")
    assert ids(tmp_path) == [f"chain.f{n}" for n in range(900)]


def test_missing_folder_is_a_source_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere is not a folder"):
        collect_docstrings(tmp_path / "nowhere")


def test_unreadable_file_is_a_source_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    write(tmp_path, "m.py", '"""Text."""')
    monkeypatch.setattr(
        Path, "read_bytes", refuse
    )  # root may read every file, so chmod will not do
    with pytest.raises(SourceError, match=r"cannot read .*m\.py: Permission denied"):
        collect(tmp_path)


def test_unreadable_folder_is_a_source_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(SourceError, match=r"cannot read .*: Permission denied"):
        collect(tmp_path)


@pytest.fixture(scope="module")
def library() -> list[SourceDocument]:
    return list(collect_docstrings())


def test_standard_library_gives_thousands_of_unique_documents(
    library: list[SourceDocument],
) -> None:
    indices = [(d.metadata["file"], d.metadata["line"]) for d in library]
    assert len(library) > 5000
    assert len({d.id for d in library}) == len(library)
    assert indices == sorted(indices, key=lambda place: (str(place[0]), int(place[1] or 0)))
    assert all(d.text.strip() for d in library)
    assert not {d.label for d in library} & {"test", "site-packages", "dist-packages", "pip"}


def test_standard_library_texts_are_what_inspect_shows(library: list[SourceDocument]) -> None:
    by_id = {d.id: d for d in library}
    assert by_id["json"].text == inspect.getdoc(json)
    assert by_id["json.loads"].text == inspect.getdoc(json.loads)
    raw_decode = by_id["json.decoder.JSONDecoder.raw_decode"]
    assert raw_decode.text == inspect.getdoc(json.JSONDecoder.raw_decode)
    assert raw_decode.label == "json"
    assert raw_decode.metadata == {
        "file": "json/decoder.py",
        "line": json.JSONDecoder.raw_decode.__code__.co_firstlineno,
        "kind": "method",
    }


def test_collecting_imports_nothing(tmp_path: Path) -> None:
    write(tmp_path, "boom.py", '"""Text."""\nraise RuntimeError("imported")\n')
    before = set(sys.modules)
    assert ids(tmp_path) == ["boom"]
    assert set(sys.modules) == before
