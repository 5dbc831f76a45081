"""What a layer number means."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdex.errors import LayerError, OptionError
from layerdex.layers import (
    LayerSelection,
    format_layers,
    name_layers,
    resolve_layer,
    resolve_layers,
    resolve_stored,
)


@pytest.mark.parametrize(("layer", "resolved"), [(0, 0), (6, 6), (-1, 6), (-7, 0), (-2, 5), (3, 3)])
def test_layer_counts_from_the_embedding_output_or_from_the_deepest(
    layer: int, resolved: int
) -> None:
    assert resolve_layer(layer, depth=6) == resolved


@pytest.mark.parametrize("layer", [7, -8, 100])
def test_missing_layer_is_an_error_that_gives_the_range(layer: int) -> None:
    with pytest.raises(LayerError, match=re.escape(f"layer {layer} ")) as caught:
        resolve_layer(layer, depth=6)
    assert "0 to 6" in str(caught.value)
    assert "-1 to -7" in str(caught.value)


@pytest.mark.parametrize(
    ("selection", "layers"),
    [
        ("all", (0, 1, 2, 3, 4, 5, 6)),
        (" ALL ", (0, 1, 2, 3, 4, 5, 6)),
        ("-1", (6,)),
        ("4", (4,)),
        ("0,4-6", (0, 4, 5, 6)),
        ("4-6,0", (0, 4, 5, 6)),
        (" 0 , 4 - 6 ", (0, 4, 5, 6)),
        ("-3--1", (4, 5, 6)),
        ("4--1", (4, 5, 6)),
        ("-7-1", (0, 1)),
        ("2,2,2-2", (2,)),
        ("007", LayerError),
        (4, (4,)),
        (-1, (6,)),
        ([3, -1, 0, 3], (0, 3, 6)),
        ((), OptionError),
        ("", OptionError),
        (",", OptionError),
        ("1,", OptionError),
        ("1-", OptionError),
        ("1.5", OptionError),
        ("last", OptionError),
        ("all,1", OptionError),
        ("5-3", OptionError),
        ("-1-0", OptionError),
        ("0-7", LayerError),
        ("-8", LayerError),
        ([7], LayerError),
    ],
)
def test_selection_is_resolved(
    selection: LayerSelection, layers: tuple[int, ...] | type[OptionError]
) -> None:
    if isinstance(layers, tuple):
        assert resolve_layers(selection, depth=6) == layers
        return
    with pytest.raises(OptionError) as caught:
        resolve_layers(selection, depth=6)
    assert type(caught.value) is layers


def test_model_of_no_blocks_has_only_layer_zero() -> None:
    assert resolve_layers("all", depth=0) == resolve_layers("-1", depth=0) == (0,)


def test_stored_layers_are_what_all_means() -> None:
    assert resolve_stored("all", stored=(1, 4), depth=6) == (1, 4)
    assert resolve_stored(" All ", stored=(1, 4), depth=6) == (1, 4)
    assert resolve_stored("-3,1", stored=(1, 4), depth=6) == (1, 4)
    assert resolve_stored(4, stored=(1, 4), depth=6) == (4,)


@pytest.mark.parametrize("selection", [2, "-1", "1-4", [0, 4]])
def test_layer_that_the_index_does_not_hold_is_an_error(selection: LayerSelection) -> None:
    with pytest.raises(LayerError, match=r"it holds 1,4 of a model with layers 0 to 6"):
        resolve_stored(selection, stored=(1, 4), depth=6)


def test_layer_that_the_model_does_not_have_is_an_error_of_its_own() -> None:
    with pytest.raises(LayerError, match="layer 9 does not exist"):
        resolve_stored("9", stored=(1, 4), depth=6)


@pytest.mark.parametrize(
    ("layers", "text"),
    [((), ""), ((3,), "3"), ((0, 1), "0-1"), ((0, 4, 5, 6), "0,4-6"), ((1, 3, 5), "1,3,5")],
)
def test_layers_are_described_in_short(layers: tuple[int, ...], text: str) -> None:
    assert format_layers(layers) == text


@given(st.sets(st.integers(0, 30), min_size=1))
def test_description_is_a_selection_of_the_same_layers(layers: set[int]) -> None:
    assert resolve_layers(format_layers(sorted(layers)), depth=30) == tuple(sorted(layers))


def test_an_array_is_layers_and_other_things_are_refused() -> None:
    assert resolve_layers(np.array([4, 0]), depth=6) == (0, 4)
    for wrong in (np.array([0.5]), 1.0, True, None):
        with pytest.raises(OptionError):
            resolve_layers(wrong, depth=6)  # type: ignore[arg-type]


def test_layers_are_named_in_the_singular_and_the_plural() -> None:
    assert name_layers([6]) == "layer 6"
    assert name_layers([0, 4, 5, 6]) == "layers 0,4-6"
