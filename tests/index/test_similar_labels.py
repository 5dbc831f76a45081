from __future__ import annotations

import pytest

from layerdex.index.similar_labels import group_similar, quote_label

COMPOSED, COMBINING = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    "group",
    [
        ("pos", "pos "),
        ("pos", " pos", "pos\u00a0"),
        ("late arrival", "late  arrival"),
        ("1", "1.0"),
        ("-2.00", "-2"),
        (COMPOSED, COMBINING),
    ],
)
def test_labels_that_look_alike_are_a_group(group: tuple[str, ...]) -> None:
    assert group_similar(["other", *group, "another"]) == [group]
    assert len({quote_label(label) for label in group}) == len(group)
    assert len({" ".join(quote_label(label).split()) for label in group}) == len(group)


@pytest.mark.parametrize(
    "labels", [("Pos", "pos"), ("1", "1.5"), ("1", "10"), ("v2", "v2.0"), ("a b", "ab"), ()]
)
def test_other_labels_are_no_group(labels: tuple[str, ...]) -> None:
    assert group_similar(labels) == []
