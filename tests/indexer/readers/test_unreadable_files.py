"""Files and folders below a folder that cannot be read, or are left out on purpose."""

from __future__ import annotations

import errno
import inspect
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerdex.choices import Format
from layerdex.errors import RowError, SourceError
from layerdex.indexer.readers import Dialect, Fields, Reading, read_source
from layerdex.indexer.readers.changes import CHANGED, FileState
from layerdex.indexer.readers.sources import read_labelled, read_queries
from layerdex.records import UNSET, Rejected, SourceDocument, Unset
from tests.storage.permissions import unprivileged


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder by a path that needs no rights in the folders above."""
    monkeypatch.chdir(tmp_path)
    root = Path("root")
    (root / "sub").mkdir(parents=True)
    (root / "a").write_text("first")
    (root / "sub" / "b").write_text("second")
    (root / "z").write_text("last")
    tmp_path.chmod(0o711)
    return root


def by_name(readings: list[Reading], root: Path) -> dict[str, str | Unset | None]:
    """Return the id of each rejected row by its path, which must name the rows."""
    return {
        os.path.relpath(one.origin.source, root): one.id
        for one in readings
        if isinstance(one, Rejected)
    }


def texts(readings: list[Reading]) -> list[str]:
    return [one.text for one in readings if isinstance(one, SourceDocument)]


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def through_a_file(path: Path) -> None:
    path.symlink_to("a/b")


def too_long(path: Path) -> None:
    path.symlink_to("x" * 300)


@pytest.mark.parametrize("make", [dangling, loop, through_a_file, too_long])
@pytest.mark.parametrize("name", ["m", "sub/m"])
def test_a_link_that_leads_nowhere_is_rejected_with_its_id(
    root: Path, name: str, make: Callable[[Path], None]
) -> None:
    make(root / name)
    readings = list(read_source(root))
    assert texts(readings) == ["first", "second", "last"]
    assert by_name(readings, root) == {name: name}
    (reason,) = [one.reason for one in readings if isinstance(one, Rejected)]
    assert reason.startswith("a link that leads nowhere: ")


def test_the_id_is_unknown_where_it_is_made_of_the_text(root: Path) -> None:
    dangling(root / "m")
    (root / "n").write_bytes(b"\xff")
    for fields in (Fields(id=UNSET), Fields(id="text")):
        readings = list(read_source(root, fields=fields))
        assert by_name(readings, root) == {"m": UNSET, "n": UNSET}


def test_what_may_not_be_read_is_rejected(root: Path) -> None:
    (root / "a").chmod(0)
    (root / "sub").chmod(0)
    (root / "link").symlink_to("sub/b")
    with unprivileged():
        readings = list(read_source(root))
    assert texts(readings) == ["last"]
    # Nobody knows which files are in a folder that cannot be listed.
    assert by_name(readings, root) == {"a": "a", "sub": UNSET, "link": "link"}
    assert {one.reason.rpartition(": ")[2] for one in readings if isinstance(one, Rejected)} == {
        "permission denied"
    }


def test_a_folder_that_can_be_listed_but_not_entered_is_rejected(root: Path) -> None:
    (root / "sub").chmod(0o444)
    with unprivileged():
        readings = list(read_source(root))
    assert texts(readings) == ["first", "last"]
    assert set(by_name(readings, root).values()) == {UNSET}


def test_a_root_that_may_not_be_read_is_an_error(root: Path) -> None:
    root.chmod(0)
    with unprivileged(), pytest.raises(SourceError, match=r"^cannot read .*permission denied$"):
        list(read_source(root, format=Format.FOLDER))


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ENOENT])
@pytest.mark.parametrize("name", ["a", "sub"])
def test_an_error_of_the_disk_rejects_one_entry(
    root: Path, name: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            if str(path) == str(root / name):
                raise OSError(code, os.strerror(code), str(path))
            return real(path, *args, **options)

        return call

    monkeypatch.setattr(Path, "open", fail(Path.open))
    monkeypatch.setattr(os, "scandir", fail(os.scandir))
    readings = list(read_source(root))
    assert texts(readings) == [
        text for text, of in (("first", "a"), ("second", "sub"), ("last", "z")) if of != name
    ]
    assert by_name(readings, root) == {name: name if name == "a" else UNSET}


def test_a_file_that_vanishes_after_the_listing_is_rejected(root: Path) -> None:
    readings = read_source(root)
    first = next(readings)
    (root / "z").unlink()
    assert by_name([first, *readings], root) == {"z": "z"}


def test_a_name_that_is_no_text_has_no_id(root: Path) -> None:
    (root / os.fsdecode(b"\xff")).symlink_to("nowhere")
    (root / os.fsdecode(b"\xfe")).write_text("text")
    rejected = [one for one in read_source(root) if isinstance(one, Rejected)]
    assert [one.id for one in rejected] == [UNSET, UNSET]


def test_names_that_differ_in_unicode_form_are_two_documents(root: Path) -> None:
    names = {"caf\u00e9": "composed", "cafe\u0301": "decomposed"}
    for name, text in names.items():
        (root / name).write_text(text)
    found = {one.id: one.text for one in read_source(root) if isinstance(one, SourceDocument)}
    assert {name: found[name] for name in names} == names


def test_what_is_left_out_is_counted_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (".hidden", "sub/.hidden"):
        (root / name).write_text("no")
    (root / "to-folder").symlink_to("sub")
    (root / "index" / "segments").mkdir(parents=True)
    (root / "index" / "catalog.sqlite3").touch()
    os.mkfifo(root / "sub" / "pipe")
    (root / "device").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "server"))
        readings = list(read_source(root))
    assert texts(readings) == ["first", "second", "last"]
    assert by_name(readings, root) == {}
    assert caplog.messages == [
        f"{root}: left out: hidden files and folders (2), pipes, sockets and devices (3), "
        "indexes (1), links to folders (1)"
    ]


def test_a_link_out_of_the_folder_is_read(root: Path) -> None:
    (root.parent / "elsewhere").write_text("outside")
    (root / "link").symlink_to("../elsewhere")
    assert texts(list(read_source(root))) == ["first", "outside", "second", "last"]


def test_folders_may_be_nested_deeper_than_calls(tmp_path: Path) -> None:
    leaf = tmp_path.joinpath(*"d" * 150, "leaf")
    leaf.parent.mkdir(parents=True)
    leaf.write_text("text")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        readings = list(read_source(tmp_path, format=Format.FOLDER))
    finally:
        sys.setrecursionlimit(limit)
    assert texts(readings) == ["text"]


def test_a_file_of_a_folder_has_a_bound(root: Path) -> None:
    (root / "m").write_text("x" * 101)
    (root / "n").write_text("x" * 100)
    readings = list(read_source(root, dialect=Dialect(max_row_bytes=100)))
    assert by_name(readings, root) == {"m": "m"}
    assert "x" * 100 in texts(readings)


def test_a_file_that_is_written_to_meanwhile_is_rejected(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = FileState.of

    def append(file: Path | int) -> FileState:
        state = of(file)
        if state.inode == (root / "a").stat().st_ino:
            with (root / "a").open("a") as writer:
                writer.write(" and more")
        return state

    monkeypatch.setattr(FileState, "of", append)
    readings = list(read_source(root))
    assert by_name(readings, root) == {"a": "a"}
    assert [one.reason for one in readings if isinstance(one, Rejected)] == [CHANGED]


def test_a_file_of_rows_that_is_written_to_meanwhile_ends_with_a_reject(tmp_path: Path) -> None:
    for change in ("append", "truncate", "replace"):
        path = tmp_path / f"{change}.txt"
        path.write_text(f"{'text' * 50}\n" * 2_000)
        readings = read_source(path)
        first = next(readings)
        if change == "append":
            with path.open("a") as writer:
                writer.write("torn")
        elif change == "truncate":
            os.truncate(path, 250_000)
        else:
            other = tmp_path / "other"
            other.write_text("other\n")
            other.replace(path)
        rest = [first, *readings]
        rejected = [one for one in rest if isinstance(one, Rejected)]
        # What replaces a file leaves the open one as it was.
        expected = [] if change == "replace" else [(CHANGED, UNSET)]
        assert [(one.reason, one.id) for one in rejected] == expected
        assert len(texts(rest)) == 2_000 or change != "replace"


def test_a_question_or_a_test_set_does_not_go_on_without_a_file(root: Path) -> None:
    dangling(root / "m")
    for read in (
        lambda: read_queries(root, text_field="text"),
        lambda: read_labelled(root, fields=Fields(label="folder")),
    ):
        with pytest.raises(RowError, match="a link that leads nowhere: no such file"):
            read()
