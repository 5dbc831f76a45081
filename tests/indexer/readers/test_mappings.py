from __future__ import annotations

import subprocess
import sys

from layerdex.indexer.readers import read_mappings
from layerdex.records import Origin, SourceDocument
from tests.indexer.readers.sources import reasons


def test_mappings_are_numbered_from_one() -> None:
    readings = list(read_mappings({"text": text} for text in ("a", "", "c")))
    assert readings[0] == SourceDocument("a", origin=Origin("<memory>", 1))
    assert reasons(readings) == [None, "text is empty", None]
    assert str(readings[1]) == "<memory>:2: text is empty"


def test_row_that_is_no_mapping_is_rejected() -> None:
    rows: list[dict[str, object]] = ["text"]  # type: ignore[list-item]
    assert reasons(list(read_mappings(rows))) == ["the row is not an object (string)"]


def test_names_that_are_no_strings_are_rejected() -> None:
    row: dict[str, object] = {"text": "a", 0: 1}  # type: ignore[dict-item]
    expected = "metadata field 0 has a name that is no string (int)"
    assert reasons(list(read_mappings([row]))) == [expected]


def test_importing_the_readers_loads_no_heavy_package() -> None:
    code = (
        "import sys, layerdex.indexer.readers as corpus; corpus.read_source; "
        "print(sorted({'pyarrow', 'pandas', 'torch', 'transformers', 'faiss'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
