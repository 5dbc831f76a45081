"""How long texts are divided: windows over the tokens, exact pieces of the text, all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from layerdex.indexer.models.loading import describe_tokenizer
from layerdex.indexer.text import chunks
from layerdex.indexer.text.chunks import Chunk, average_chunks, split
from layerdex.indexer.text.tokenizer import TextTokenizer, TokenizerSpec, Tokens
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import plain_ids, plain_windows
from tests.indexer.text.test_tokenizer import MEDIUM, STYLES, make, pieces_of_one_word
from tests.tiny_models import sentence

# Where each character is a token or several, as many chunks are in less text.
N_CHARACTERS = {"chinese": 1_000, "emoji": 1_000}
# Neither a chunk's beginning nor its end falls into one of their words.
OF_WORDS = ["words", "lines", "wide gaps", "leading spaces"]


def pieces(tokenizer: TextTokenizer, text: str) -> list[Chunk]:
    found = list(split(tokenizer, text))
    assert found[0].start == 0
    assert found[-1].end <= len(text)
    return found


def assert_covered(found: list[Chunk], text: str) -> None:
    """Only blanks may lie between chunks, or after them."""
    end = 0
    for chunk in found:
        assert end >= chunk.start or text[end : chunk.start].isspace()
        assert chunk.end > end
        end = chunk.end
    assert end == len(text) or text[end:].isspace()


@pytest.mark.parametrize("max_length", [40, 256])
@pytest.mark.parametrize("kind", OF_WORDS)
@pytest.mark.parametrize("style", STYLES)
def test_chunks_are_overlapping_windows_over_the_texts_tokens(
    style: str, kind: str, max_length: int, tiny_model: TinyModel
) -> None:
    folder, text = tiny_model(style), MEDIUM[kind]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if kind == "leading spaces" and style in ("roberta", "modernbert"):
        pytest.skip("each blank is a token, and part of a word that no window holds")

    found = [one for one in pieces(make(folder, max_length=max_length), text) if one.n_tokens]

    windows = plain_windows(tokenizer, text, max_length=max_length)
    assert [chunk.ids for chunk in found] == [window.ids for window in windows]
    assert [chunk.n_tokens for chunk in found] == [window.n_tokens for window in windows]
    n_whole = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert sum(chunk.n_new for chunk in found) == n_whole
    shared = [chunk.n_tokens - chunk.n_new for chunk in found[1:]]
    assert shared
    # One more where two tokens stand for one character, and are only whole in the later chunk.
    assert all(1 <= n <= (max_length - 2) // 8 + 1 for n in shared)
    assert all(chunk.is_whole for chunk in found)


@pytest.mark.parametrize("max_length", [24])
@pytest.mark.parametrize("kind", MEDIUM)
@pytest.mark.parametrize("style", STYLES)
def test_each_chunk_is_what_cutting_keeps_of_the_rest_and_all_is_covered(
    style: str, kind: str, max_length: int, tiny_model: TinyModel
) -> None:
    folder, text = tiny_model(style), MEDIUM[kind][: N_CHARACTERS.get(kind, 3_000)]
    tokenizer = AutoTokenizer.from_pretrained(folder)

    found = pieces(make(folder, max_length=max_length), text)

    assert_covered(found, text)
    if kind == "long words":
        return  # one that reaches over the end of what is tokenised at once has other tokens
    for chunk in found[:: max(1, len(found) // 12)]:
        rest = text[chunk.start : chunk.start + 256 * max_length]
        assert chunk.ids == plain_ids(tokenizer, rest, max_length=max_length)


@pytest.mark.parametrize("template", ["{text} means what", "q: {text}", "a question: {text}."])
@pytest.mark.parametrize("kind", MEDIUM)
@pytest.mark.parametrize("style", ["bert", "roberta", "xlm-roberta"])
def test_a_template_is_whole_around_each_chunk(
    style: str, kind: str, template: str, tiny_model: TinyModel
) -> None:
    folder, text = tiny_model(style), MEDIUM[kind][: N_CHARACTERS.get(kind, 3_000)]
    tokenizer = AutoTokenizer.from_pretrained(folder)

    found = pieces(make(folder, max_length=30, template=template), text)

    assert_covered(found, text)
    before, after = template.split("{text}")
    assert max(len(chunk.ids) for chunk in found) <= 30
    for chunk in found[:: max(1, len(found) // 12)]:
        if after:
            piece = text[chunk.start : chunk.end]
            assert chunk.ids == tokenizer(before + piece + after)["input_ids"]
        elif kind != "long words":
            rest = before + text[chunk.start : chunk.start + 256 * 30]
            assert chunk.ids == plain_ids(tokenizer, rest, max_length=30)


def test_the_end_of_a_text_within_a_token_that_an_earlier_chunk_has_begun_is_kept(
    tiny_model: TinyModel,
) -> None:
    """The last chunk then has no token that begins beyond the earlier ones."""
    tokenizer = make(tiny_model("xlm-roberta"), max_length=30, template="q: {text}")
    text = MEDIUM["one space in a hundred words"]
    for n_characters in range(950, 1_050):
        assert_covered(pieces(tokenizer, text[:n_characters]), text[:n_characters])


def test_a_token_of_parts_of_two_characters_counts_once() -> None:
    """As byte-level tokenizers make them."""
    texts = []
    for seed in range(40):
        codes = np.random.default_rng(seed).integers(0x4E00, 0x4E40, 200)
        texts.append("".join(map(chr, codes)))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=600, show_progress=False, special_tokens=["<pad>"])
    )
    spec = TokenizerSpec(tokenizer.to_str(), pad_id=0, mask_token=None, mask_id=None)
    short, whole = (
        TextTokenizer(spec, template="{text}", max_length=n, needs_mask=False) for n in (30, 1_000)
    )
    offsets = [offset for text in texts for offset in tokenizer.encode(text).offsets]
    assert any(last - first > 1 for first, last in offsets)
    for text in texts:
        [of_all] = pieces(whole, text)
        assert sum(chunk.n_new for chunk in pieces(short, text)) == of_all.n_tokens


@pytest.mark.parametrize("template", ["{text}", "{text} a"])
def test_a_character_that_does_not_fit_is_said_and_passed(
    template: str, tiny_model: TinyModel
) -> None:
    # Four bytes are four tokens, and there is room for three, or for two with the template.
    tokenizer = make(tiny_model("roberta"), max_length=5, template=template)

    found = pieces(tokenizer, "the cat 😀😀 sat on the mat")

    assert not all(chunk.is_whole for chunk in found) or template != "{text}"
    ends = [chunk.end for chunk in found]
    assert ends == sorted(set(ends))
    assert ends[-1] == len("the cat 😀😀 sat on the mat")


@given(st.text(alphabet="ab \n\u3000é中😀", min_size=1, max_size=300), st.integers(3, 24))
def test_any_text_is_covered(text: str, max_length: int) -> None:
    spec = describe_tokenizer(pieces_of_one_word())
    tokenizer = TextTokenizer(spec, template="{text}", max_length=max_length, needs_mask=False)

    found = pieces(tokenizer, text)

    assert all(len(chunk.ids) <= max_length for chunk in found)
    if any(chunk.n_new for chunk in found):
        assert_covered(found, text)
    assert all(chunk.is_whole for chunk in found)


@pytest.mark.parametrize("n_in_a_group", [1, 3, 1_000])
def test_texts_are_averaged_by_their_tokens_a_bounded_number_of_chunks_at_a_time(
    n_in_a_group: int, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_GROUP_CHUNKS", n_in_a_group)
    tokenizer = make(tiny_model("bert"), max_length=20)
    texts = [sentence(n, seed=n) for n in (30, 100, 45)]
    at_once: list[int] = []
    shares: list[tuple[float, float]] = []

    def direction(ids: list[int]) -> NDArray[np.float32]:
        drawn = np.random.default_rng(ids).standard_normal((2, 5)).astype(np.float32)
        unit: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return unit

    def encode(tokens: Tokens, start: float, stop: float) -> NDArray[np.float32]:
        at_once.append(len(tokens.ids))
        shares.append((start, stop))
        return np.stack([direction(ids) for ids in tokens.ids], axis=1)

    divided = [list(split(tokenizer, text)) for text in texts]
    firsts = np.stack([direction(one[0].ids) for one in divided], axis=1)

    found = average_chunks(tokenizer, texts, firsts, encode)

    assert max(at_once) <= n_in_a_group
    assert sum(at_once) == sum(len(one) - 1 for one in divided)
    assert [start for start, _ in shares] == [0, *(stop for _, stop in shares[:-1])]
    assert shares == sorted(shares)
    assert shares[-1][1] == 1
    for i, one in enumerate(divided):
        weights = np.array([chunk.n_tokens for chunk in one])
        vectors = np.stack([direction(chunk.ids) for chunk in one]).astype(np.float64)
        mean = np.einsum("c,clw->lw", weights, vectors)
        expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        np.testing.assert_allclose(found.vectors[:, i], expected, atol=1e-6)
    assert not found.truncated.any()


# 2 MB each; the unknown words are one token for 91 characters, which keeps this quick. At the end,
# to show that the measure works, as long a text of known words is tokenised whole.
MEASURE = """
import json, re, sys
from pathlib import Path
from tests.indexer.text.test_tokenizer import make
from layerdex.indexer.text.chunks import split

def peak():
    # Not ru_maxrss, which starts at the size of the process that this one was forked from.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) // 1024

templates = ["{text}", "a {text} means what"]
tokenizers = [make(sys.argv[1], max_length=512, template=one) for one in templates]
texts = [("\\u20ac" * 90 + " ") * 22_000, "a" * 2_000_000]
for tokenizer in tokenizers:
    list(split(tokenizer, "the cat " * 5_000))
baseline = peak()
ends = []
for tokenizer, text in zip(tokenizers, texts):
    for chunk in split(tokenizer, text):
        pass
    ends.append(chunk.end)
grown = peak() - baseline
tokenizer._whole.encode("word " * 400_000)
print(json.dumps([ends, [len(text) for text in texts], grown, peak() - baseline]))
"""


def test_chunks_of_two_megabytes_take_little_more_memory(tiny_model: TinyModel) -> None:
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tiny_model("bert"))],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=Path(__file__).parents[2],
    )

    assert run.returncode == 0, run.stderr
    covered, n_characters, grown_mib, whole_mib = json.loads(run.stdout)
    assert covered == n_characters
    assert whole_mib > 100
    assert grown_mib < 50
