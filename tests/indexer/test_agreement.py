from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from layerdex.errors import IndexMismatchError
from layerdex.indexer.agreement import check_fingerprint
from layerdex.records import LongText, Pooling
from tests.encoders import WordEncoder

RECORDED = WordEncoder().settings
OTHER = replace(RECORDED, fingerprint="other")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pooling": Pooling.CLS}, "pooling 'mean', not 'cls'"),
        ({"template": "q: {text}"}, "template '{text}', not 'q: {text}'"),
        ({"max_length": 9}, "max length '12', not '9'"),
        ({"long": LongText.CHUNK}, "long 'truncate', not 'chunk'"),
        (
            {"max_length": 9, "pooling": Pooling.MAX},
            "pooling 'mean', not 'max' and max length '12', not '9'",
        ),
    ],
)
def test_settings_that_differ_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(IndexMismatchError) as caught:
        check_fingerprint(replace(OTHER, **changes), RECORDED)

    assert str(caught.value).startswith(f"this index was made with {said}: ")
    assert "version" not in str(caught.value)


def test_without_such_a_difference_it_is_the_model() -> None:
    with pytest.raises(IndexMismatchError, match=r"another version of .*words.* now has other"):
        check_fingerprint(OTHER, RECORDED)


def test_what_decides_no_vector_may_differ() -> None:
    check_fingerprint(replace(RECORDED, model="moved", token_budget=1, window=2), RECORDED)
