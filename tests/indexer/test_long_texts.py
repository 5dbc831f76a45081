"""The encoder on texts beyond the maximum length, in chunks: whole, and averaged."""

from __future__ import annotations

import json
import sqlite3
from functools import partial
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from layerdex import Index
from layerdex.choices import LongText, Pooling, StoredPrecision
from layerdex.errors import IndexMismatchError, OptionError
from layerdex.indexer.models.compatibility import check_options
from layerdex.indexer.text.chunks import split
from layerdex.options import EncoderOptions
from layerdex.storage.catalog.row_digests import setting_digest
from tests.hits import similarities_of
from tests.indexer import loaded
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import (
    POOLINGS,
    Floats,
    cosines,
    load_plain,
    plain_vectors,
    plain_windows,
    unit,
    vectors_of_ids,
)
from tests.results import first
from tests.tiny_models import DEPTH, N_POSITIONS, sentence

LAYERS = range(DEPTH + 1)
BOUND = 1 - 1e-6
SHORT = [sentence(9, seed=1), "a", sentence(20, seed=4), f"the{' a' * (N_POSITIONS - 3)}"]
# The last is one full chunk and a short one about something else, so weights matter.
LONG = [sentence(60, seed=1), sentence(200, seed=2), "the cat sat " * 13 + "money, money"]


load = partial(loaded.load, long=LongText.CHUNK)


def averaged(vectors: Floats, weights: list[int]) -> Floats:
    """Average unit vectors (depth + 1, n, width) of chunks by their weights."""
    mean: Floats = np.einsum("lnw,n->lw", vectors, np.array(weights, dtype=np.float64))
    return unit(mean)


@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.CLS, Pooling.MAX])
@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_a_long_text_is_the_average_of_windows_weighted_by_their_tokens(
    family: str, pooling: Pooling, tiny_model: TinyModel
) -> None:
    folder = tiny_model(family)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), load_plain(folder)

    encoded = load(folder, pooling=pooling).encode(LONG, LAYERS)

    for i, text in enumerate(LONG):
        windows = plain_windows(tokenizer, text, max_length=N_POSITIONS)
        vectors = vectors_of_ids(model, [one.ids for one in windows], POOLINGS[pooling.value])
        expected = averaged(vectors, [one.n_tokens for one in windows])
        assert cosines(encoded.vectors[:, i], expected).min() >= BOUND
    # Other weights differ by far more than the bound, or this could not tell.
    assert cosines(averaged(vectors, [1] * len(windows)), expected).min() < 1 - 1e-4
    assert encoded.n_tokens.tolist() == [len(tokenizer(text)["input_ids"]) for text in LONG]
    assert not encoded.truncated.any()


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_texts_that_fit_have_the_bytes_that_they_have_when_long_ones_are_cut(
    family: str, tiny_model: TinyModel
) -> None:
    folder = tiny_model(family)
    texts = [SHORT[0], LONG[0], *SHORT[1:], *LONG[1:]]
    short = [texts.index(text) for text in SHORT]
    long = [texts.index(text) for text in LONG]

    cut = load(folder, long=LongText.TRUNCATE).encode(texts, LAYERS)
    whole = load(folder).encode(texts, LAYERS)

    assert whole.vectors[:, short].tobytes() == cut.vectors[:, short].tobytes()
    np.testing.assert_array_equal(whole.n_tokens[short], cut.n_tokens[short])
    assert cut.n_tokens[short].max() == N_POSITIONS
    assert cosines(whole.vectors[:, long], cut.vectors[:, long].astype(float)).max() < 0.9999
    assert (cut.truncated.sum(), whole.truncated.sum()) == (len(LONG), 0)


@pytest.mark.parametrize(
    ("template", "pooling", "which"),
    [
        ("a question: {text} ?", Pooling.MEAN, None),
        ('"{text}" means {mask}.', Pooling.MASK, -1),
        ("{mask} : {text}", Pooling.MASK, 0),
    ],
)
@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_the_template_and_its_mask_are_around_each_chunk(
    family: str, template: str, pooling: Pooling, which: int | None, tiny_model: TinyModel
) -> None:
    folder = tiny_model(family)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), load_plain(folder)
    encoder = load(folder, template=template, pooling=pooling)
    mask = tokenizer.mask_token
    text = f"{sentence(40, seed=1)} {mask} {sentence(40, seed=2)}"
    rendered = template.replace("{mask}", mask)

    found = encoder.encode([text], LAYERS).vectors[:, 0]

    vectors, weights = [], []
    for chunk in split(encoder._tokenizer, text):
        ids = tokenizer(rendered.replace("{text}", text[chunk.start : chunk.end]))["input_ids"]
        assert len(ids) <= N_POSITIONS
        indices = [i for i, one in enumerate(ids) if one == tokenizer.mask_token_id]
        pooling_here = POOLINGS["mean"] if which is None else itemgetter(indices[which])
        vectors.append(vectors_of_ids(model, [ids], pooling_here)[:, 0])
        weights.append(len(ids) - len(tokenizer(rendered.replace("{text}", ""))["input_ids"]))
    assert len(vectors) >= 3
    # A blank between template and text can be a token where there is no text.
    assert cosines(found, averaged(np.stack(vectors, axis=1), weights)).min() >= 1 - 1e-4


def test_blanks_alone_weigh_nothing(tiny_model: TinyModel) -> None:
    folder = tiny_model("bert")
    far = " " * (300 * N_POSITIONS)

    found = load(folder).encode([f"{far}the cat{far}", "\u200b" * len(far)], LAYERS)

    expected = plain_vectors(folder, ["the cat", ""], max_length=N_POSITIONS)
    assert cosines(found.vectors, expected).min() >= BOUND
    assert found.n_tokens.tolist() == [4, 2]
    assert not found.truncated.any()


def test_an_index_covers_and_asks_whole_texts(bert: Path, tmp_path: Path) -> None:
    same = sentence(60, seed=1)
    texts = {"a": same + " river" * 60, "b": same + " good, bad" * 30}
    rows = [{"id": name, "text": text} for name, text in texts.items()]
    similarity = {}
    for long in LongText:
        path = tmp_path / long
        options = EncoderOptions(model=str(bert), long=long)
        index = Index.create(path, model=options, runtime=loaded.TORCH)
        index.add(rows)
        hits = first(Index.open(path, runtime=loaded.TORCH).search(texts["b"]))
        similarity[long] = dict(zip([hit.id for hit in hits], similarities_of(hits), strict=True))
        assert similarity[long]["b"] > 1 - 1e-6
        assert index.info().n_truncated == (2 if long is LongText.TRUNCATE else 0)
        assert index.encoder.settings == index.settings

    # Cut, the two are one and the same text.
    assert similarity[LongText.TRUNCATE]["a"] > 1 - 1e-6
    assert similarity[LongText.CHUNK]["a"] < 0.9999


def test_the_mode_is_part_of_what_an_index_was_made_with(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    cut = load(tiny_model("bert"), long=LongText.TRUNCATE).settings
    whole = load(tiny_model("bert")).settings

    stored = (whole, (0,), StoredPrecision.FLOAT16)
    assert cut.fingerprint != whole.fingerprint
    with pytest.raises(IndexMismatchError, match="made with long 'chunk', not 'truncate'"):
        check_options(*stored, EncoderOptions(long=LongText.TRUNCATE))
    check_options(*stored, EncoderOptions(long=LongText.CHUNK, model=str(tiny_model("bert"))))
    with pytest.raises(OptionError, match=r"'split' is .* of truncate, chunk"):
        EncoderOptions(long="split")  # type: ignore[arg-type]


def test_an_index_from_before_there_was_a_choice_cuts(bert: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=str(bert), runtime=loaded.TORCH)
    index.add([{"id": "a", "text": "the cat sat"}])
    with sqlite3.connect(index.path / "catalog.sqlite3") as catalog:
        ((value,),) = catalog.execute("SELECT value FROM setting WHERE key = 'encoder'").fetchall()
        stored = json.loads(value)
        assert stored.pop("long") == "truncate"
        catalog.execute(
            "UPDATE setting SET value = ?, digest = ? WHERE key = 'encoder'",
            [json.dumps(stored), setting_digest("encoder", stored)],
        )
    catalog.close()
    (index.path / "catalog.sqlite3.crc32").unlink()

    again = Index.open(index.path, runtime=loaded.TORCH)

    assert again.settings.long is LongText.TRUNCATE
    [hit] = first(again.search("the cat sat"))
    assert (hit.id, hit.similarity) == ("a", 1.0)


def test_unknown_tokens_of_all_chunks_are_counted_once(tiny_model: TinyModel) -> None:
    long = [f"{sentence(70, seed=3)} 😀 " * 3, "😀 中 " * 60, sentence(90, seed=4)]
    encoder = load(tiny_model("bert"))

    encoded = encoder.encode([*long, "😀", *long], [0])

    assert encoded.n_unknown is not None
    assert encoded.unreadable is not None
    assert encoded.n_unknown.tolist() == [3, 120, 0, 1, 3, 120, 0]
    assert encoded.unreadable.tolist() == [False, True, False, True, False, True, False]
    assert not encoded.truncated.any()
