from __future__ import annotations

from typing import Any

import pytest

import layerdex
from layerdex.choices import Quoting
from layerdex.errors import OptionError
from layerdex.indexer.readers import Dialect
from layerdex.indexer.readers.sources import read_all


def test_words_become_what_they_mean() -> None:
    dialect = Dialect(delimiter="tab", encoding="UTF-8-SIG", quoting="none")
    assert (dialect.delimiter, dialect.encoding) == ("\t", "utf-8")
    assert dialect.quoting is Quoting.NONE
    assert Dialect(delimiter="\\t") == Dialect(delimiter="\t")
    assert Dialect(encoding="Windows-1252") == Dialect(encoding="cp1252")
    assert Dialect() == Dialect(None, None, "auto", None)
    assert layerdex.Dialect is Dialect


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ";;"}, "delimiter must be one character that is not a quote, or tab, got"),
        ({"delimiter": ""}, "delimiter must be one character"),
        ({"delimiter": '"'}, "delimiter must be one character"),
        ({"delimiter": "\n"}, "delimiter must be one character"),
        ({"delimiter": 9}, "delimiter is a string, not 9"),
        ({"encoding": "klingon"}, "'klingon' is not an encoding that Python knows; names are utf"),
        ({"encoding": "base64"}, "'base64' is not an encoding"),
        ({"encoding": "a\0b"}, "'a\\x00b' is not an encoding"),
        ({"encoding": b"ascii"}, "encoding is a string, not b'ascii'"),
        ({"quoting": "some"}, "'some' is not one of auto, csv, none"),
        ({"sheet": 1}, "sheet is a string, not 1"),
    ],
)
def test_what_cannot_be_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Dialect(**options)
    assert str(caught.value).startswith(message)


def test_a_word_is_no_dialect() -> None:
    with pytest.raises(OptionError, match="a dialect is given as `Dialect`, not 'csv'"):
        read_all([], dialect="csv")  # type: ignore[arg-type]
