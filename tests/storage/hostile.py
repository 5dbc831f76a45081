"""Forged indexes: their wrong values have matching checksums and digests."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from layerdex import Index
from layerdex.errors import LayerdexError
from tests.encoders import WordEncoder
from tests.results import by_layer, first, hits_by_layer
from tests.storage.corpora import rows
from tests.storage.redigest import redigest
from tests.storage.stored import put_record, query

HUGE = 1_000_000_000_000

_ENCODER = "UPDATE setting SET value = json_set(value, '$.{}', {}) WHERE key = 'encoder'"
_SETTING = "UPDATE setting SET value = '{}' WHERE key = '{}'"
_DOCUMENT = "UPDATE document SET {} WHERE row = 5"
_TEXT = "UPDATE document_text SET {} WHERE row = 5"
_METADATA = "UPDATE metadatum SET {} WHERE row = 5"
_BEST = "INSERT OR REPLACE INTO setting (key, value) VALUES ('best_layer', '{}')"
_ENDLESS = (
    "CREATE VIEW {} AS WITH RECURSIVE r(row, text) AS "
    "(SELECT 1, 'x' UNION ALL SELECT row + 1, text FROM r) SELECT row, text AS version_num FROM r"
)

FORGERIES: dict[str, tuple[str, ...]] = {
    "a segment of a million million": (
        f"UPDATE segment SET n_documents = {HUGE}, last_row = first_row + {HUGE - 1} WHERE id = 2",
    ),
    "counts that add up": (
        f"UPDATE segment SET n_documents = {HUGE}, last_row = first_row + {HUGE - 1} WHERE id = 2",
        f"UPDATE segment SET n_documents = 12 - {HUGE} WHERE id = 1",
    ),
    "overlapping segments": ("UPDATE segment SET first_row = 2 WHERE id = 2",),
    "a count that is text": ("UPDATE segment SET n_documents = 'many'",),
    "a row that is text": ("UPDATE segment SET first_row = 'x'",),
    "a row that is real": ("UPDATE segment SET last_row = last_row + 0.5",),
    "a row below zero": ("UPDATE segment SET first_row = -9223372036854775808 WHERE id = 1",),
    "a segment upwards": ("UPDATE segment SET name = '../../outside' WHERE id = 1",),
    "a segment elsewhere": ("UPDATE segment SET name = '/etc' WHERE id = 1",),
    "a segment of bytes": ("UPDATE segment SET name = x'00ff' WHERE id = 1",),
    "a segment below": ("UPDATE segment SET name = name || '/..' WHERE id = 1",),
    "a huge size": ("UPDATE segment_file SET size_bytes = 9223372036854775807",),
    "a size that is text": ("UPDATE segment_file SET size_bytes = 'x'",),
    "a checksum that is text": ("UPDATE segment_file SET crc32 = 'x', block_hashes = NULL",),
    "two kinds of checksums": ("UPDATE segment_file SET crc32 = 5",),
    "no checksum": ("UPDATE segment_file SET block_hashes = NULL",),
    "a hash too few": ("UPDATE segment_file SET block_hashes = x'00'",),
    "hashes that are text": ("UPDATE segment_file SET block_hashes = '12345678'",),
    "hashes that are a number": ("UPDATE segment_file SET block_hashes = 5",),
    "a layer below zero": ("UPDATE segment_file SET layer = -1 - layer",),
    "no files": ("DELETE FROM segment_file",),
    "no segments": ("DELETE FROM segment",),
    "an ordinal that is text": (_DOCUMENT.format("ordinal = 'x'"),),
    "an ordinal that is real": (_DOCUMENT.format("ordinal = 1.5"),),
    "a length that is text": (_DOCUMENT.format("n_characters = 'x'"),),
    "a length below zero": (_DOCUMENT.format("n_characters = -1"),),
    "tokens that are text": (_DOCUMENT.format("n_tokens = 'x'"),),
    "an id of bytes": (_DOCUMENT.format("id = x'ff00'"),),
    "a label of bytes": (_DOCUMENT.format("label = x'ff'"),),
    "unknown tokens below zero": (_DOCUMENT.format("n_unknown = -1"),),
    "unknown tokens that are text": (_DOCUMENT.format("n_unknown = 'x'"),),
    "unreadable without unknown tokens": (_DOCUMENT.format("n_unknown = 0, unreadable = 1"),),
    "no boolean": (_DOCUMENT.format("truncated = 77"),),
    "a text of bytes": (_TEXT.format("text = x'ff'"),),
    "no text": ("DELETE FROM document_text",),
    "a value that is a pickle": (_METADATA.format("kind = 'pickle'"),),
    "a number that is none": (_METADATA.format("kind = 'integer', text = 'abc'"),),
    "a number of many digits": (_METADATA.format(f"kind = 'integer', text = '{'9' * 5000}'"),),
    "a real that is none": (_METADATA.format("kind = 'real', text = 'x'"),),
    "a value of bytes": (_METADATA.format("text = x'ff'"),),
    "a field of bytes": (_METADATA.format("name = x'ff'"),),
    "layers that are a number": (_SETTING.format("5", "layers"),),
    "a layer that is not there": (_SETTING.format("[0, 1, 99]", "layers"),),
    "layers twice": (_SETTING.format("[0, 0, 1, 2]", "layers"),),
    "no layers": (_SETTING.format("[]", "layers"),),
    "a huge layer": (_SETTING.format("[1000000000000000000000000]", "layers"),),
    "nested settings": (_SETTING.format("[" * 30_000, "layers"),),
    "a long number": (_SETTING.format("9" * 5000, "next_row"),),
    "a counter at its end": (_SETTING.format("9223372036854775807", "next_row"),),
    "a counter that is no number": (_SETTING.format("true", "commits"),),
    **{
        f"{field} {value}": (_ENCODER.format(field, value),)
        for field in ("width", "depth", "window", "token_budget", "max_length")
        for value in ("'x'", "-16", "1.5", "4611686018427387904")
    },
    **{f"{field} 7": (_ENCODER.format(field, "7"),) for field in ("model", "template", "extra")},
    "another precision": (_SETTING.format('"pickle"', "precision"),),
    "a best layer that is text": (_BEST.format('"x"'),),
    "a best layer that is not there": (
        _BEST.format('{"layer": 99, "accuracy": 1, "macro_f1": 1}'),
    ),
    "an endless view": ("DROP TABLE document_text", _ENDLESS.format("document_text")),
    "an endless version": ("DROP TABLE alembic_version", _ENDLESS.format("alembic_version")),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON document BEGIN DELETE FROM segment; END",),
    "a virtual table": ("CREATE VIRTUAL TABLE v USING fts5(a)",),
    "another schema": ("UPDATE alembic_version SET version_num = x'ff'",),
}


def make_sound(path: Path) -> None:
    """Create an index of three segments, of 8, 4 and 5 documents, with a dead version."""
    index = Index.create(path, model=WordEncoder())
    index.add(rows(12))
    Index.open(path, encoder=WordEncoder()).add(rows(5, start=20))
    index.delete("d3")


def copy(sound: Path, path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return Path(shutil.copytree(sound, path))


def forge(path: Path, statements: tuple[str, ...]) -> None:
    """Change the catalog, and make every digest match again."""
    for statement in statements:
        query(path, statement)
    # A value that has no digest is damaged rather than forged; the error must be as clear.
    with contextlib.suppress(RecursionError, TypeError, ValueError, SQLAlchemyError):
        redigest(path)


def forge_file(path: Path, content: bytes) -> Path:
    """Replace a layer of 8 vectors, and make the catalog match the new file."""
    ((name,),) = query(path, "SELECT name FROM segment WHERE n_documents = 8")
    file = path / "segments" / str(name) / "layer-00.faiss"
    file.unlink()
    file.write_bytes(content)
    put_record(path, file)
    return file


def _questions(index: Index) -> Mapping[str, Callable[[], object]]:
    return {
        "search": lambda: by_layer(index.search(["text number5 of 0"], layer="all", k=30)),
        "where": lambda: first(
            index.search("text number5 of 0", k=3, where=["size>2", "label!=x"])
        ),
        "dedup": lambda: index.deduplicate(threshold=0.9),
        "documents": lambda: list(index.documents()),
        "verify": index.verify,
    }


def _more(index: Index) -> Mapping[str, Callable[[], object]]:
    return {
        "like": lambda: hits_by_layer(index.search_like("d6", k=4)),
        "classify": lambda: index.classify(["text number8 of 3"], k=3),
        "add": lambda: index.add([{"id": "d5", "text": "other"}, {"id": "new", "text": "new"}]),
        "delete": lambda: index.delete("d6"),
        "compact": index.compact,
        "info": index.info,
        "repair": lambda: index.repair(index.verify()),
    }


def use(path: Path, *, more: bool = True) -> dict[str, str]:
    """Use an index in every way; return each error by name, with ``!`` if it is not Layerdex's."""
    errors: dict[str, str] = {}

    def attempt(name: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except LayerdexError as error:
            errors[name] = str(error)
        except BaseException as error:
            errors[name] = f"!{type(error).__name__}: {error}"
        return None

    for damaged in (False, True):
        index = attempt(f"open {damaged}", partial(_open, path, damaged))
        if index is not None:
            work = {**_questions(index), **(_more(index) if more else {})}
            for name, question in work.items():
                attempt(name, question)
            break  # an index that opens with checks also opens without
    return errors


def _open(path: Path, damaged: bool) -> Index:
    return Index.open(path, encoder=WordEncoder(), damaged=damaged)


def use_forged(
    sound: Path, path: Path, names: Sequence[str], more: bool
) -> dict[str, dict[str, str]]:
    """Use each of the forged catalogs; runs in a child."""
    found = {}
    for name in names:
        forge(copy(sound, path), FORGERIES[name])
        found[name] = use(path, more=more)
    return found


def assert_clear(found: dict[str, str]) -> None:
    """Fail unless something was refused, each refusal in one line of our own."""
    assert found
    for operation, message in found.items():
        assert not message.startswith("!"), f"{operation} {message}"
        assert "\n" not in message
        assert "/proc/self" not in message
