from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from layerdex.errors import OptionError
from layerdex.indexer.models.loading import describe_tokenizer
from layerdex.indexer.text.tokenizer import TextTokenizer
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import plain_ids
from tests.tiny_models import sentence

STYLES = ["bert", "roberta", "xlm-roberta", "modernbert"]

MEDIUM = {
    "words": sentence(5_000, seed=1),
    "lines": sentence(5_000, seed=2).replace(" ", "\n"),
    "tabs": sentence(5_000, seed=3).replace(" ", "\t"),
    "one space in a hundred words": sentence(3_000, seed=4).replace(" ", "-"),
    "wide gaps": sentence(300, seed=5).replace(" ", " " * 100),
    "wide gaps of lines": sentence(300, seed=6).replace(" ", "\n" * 100),
    "leading spaces": " " * 5_000 + sentence(500, seed=7),
    "one word": "river" * 2_000,
    "long words": " ".join("stone" * n for n in range(5, 60)),
    "chinese": "中文没有空格" * 1_500,
    "emoji": "😀🌊" * 4_000,
    "mixed": (sentence(20, seed=8) + " 中文😀 " + "x" * 120 + "\n") * 40,
}


def make(folder: Path, *, max_length: int, template: str = "{text}") -> TextTokenizer:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    spec = describe_tokenizer(tokenizer)
    return TextTokenizer(spec, template=template, max_length=max_length, needs_mask=False)


UNREAD = [
    ("the cat 😀 sat", 1, False),
    ("😀 中文 x中", 4, False),  # a Chinese character is a word of its own
    ("😀 中文", 3, True),
    ("\u200b\x07", 1, True),  # nothing is left of it
    ("the " * 100 + "😀", 0, False),  # cut
    ("[UNK]", 1, True),
]


@pytest.mark.parametrize("template", ["{text}", "query: {text}", "😀 {text} [MASK]"])
@pytest.mark.parametrize(("text", "n_unknown", "unreadable"), UNREAD)
def test_unknown_tokens_of_the_text_alone_are_counted(
    tiny_model: TinyModel, text: str, n_unknown: int, unreadable: bool, template: str
) -> None:
    tokenizer = make(tiny_model("bert"), max_length=40, template=template)

    counted, whole = tokenizer.count_unknown(tokenizer.tokenize([text, "the cat"]).ids)

    assert (counted.tolist(), whole.tolist()) == ([n_unknown, 0], [unreadable, False])


@pytest.mark.parametrize("text", ["cat", "the cat", "of", "x", "cat, the"])
@pytest.mark.parametrize("template", ["query: {text}", "{text} of", "a {text} a", "{text}"])
@pytest.mark.parametrize("style", STYLES)
def test_words_that_change_a_token_of_the_template_are_read(
    tiny_model: TinyModel, style: str, template: str, text: str
) -> None:
    tokenizer = make(tiny_model(style), max_length=40, template=template)

    counted, whole = tokenizer.count_unknown(tokenizer.tokenize([text]).ids)

    assert (counted.tolist(), whole.tolist()) == ([0], [False])


@pytest.mark.parametrize("style", ["roberta", "modernbert"])
def test_byte_level_tokenizers_know_everything(tiny_model: TinyModel, style: str) -> None:
    tokenizer = make(tiny_model(style), max_length=40)

    counted, whole = tokenizer.count_unknown(tokenizer.tokenize(["😀 中文", "\x07"]).ids)

    assert not counted.any()
    assert not whole.any()


@pytest.mark.parametrize("max_length", [8, 40, 256])
@pytest.mark.parametrize("kind", MEDIUM)
@pytest.mark.parametrize("style", STYLES)
def test_a_long_text_is_cut_as_the_tokenizer_itself_cuts_it(
    style: str, kind: str, max_length: int, tiny_model: TinyModel
) -> None:
    folder = tiny_model(style)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = MEDIUM[kind]
    assert len(text) >= 5_000
    # Further into a text than 256 characters a token, nobody looks.
    within = text[: 256 * max_length]
    expected = plain_ids(tokenizer, within, max_length=max_length)

    found = make(folder, max_length=max_length).tokenize([text])

    n_whole = len(tokenizer(text)["input_ids"])
    assert found.truncated.tolist() == [n_whole > max_length or len(text) > len(within)]
    assert found.ids == [expected]
    assert found.lengths.tolist() == [len(expected)]


@pytest.mark.parametrize("max_length", [3, 12, 40])
@pytest.mark.parametrize("style", STYLES)
def test_only_a_text_that_does_not_fit_counts_as_truncated(
    style: str, max_length: int, tiny_model: TinyModel
) -> None:
    folder = tiny_model(style)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # "the" and two special tokens, then one token more each.
    texts = [f"the{' a' * n}" for n in range(max(0, max_length - 5), max_length + 1)]
    n_whole = [len(tokenizer(text)["input_ids"]) for text in texts]
    assert {max_length, max_length + 1} <= set(n_whole)
    assert max_length == 3 or max_length - 1 in n_whole

    found = make(folder, max_length=max_length).tokenize(texts)

    assert found.truncated.tolist() == [n > max_length for n in n_whole]
    assert found.lengths.tolist() == [min(n, max_length) for n in n_whole]
    assert found.ids == [plain_ids(tokenizer, text, max_length=max_length) for text in texts]


@pytest.mark.parametrize("style", STYLES)
def test_special_tokens_stay_when_a_text_is_cut(style: str, tiny_model: TinyModel) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(style))

    (ids,) = make(tiny_model(style), max_length=9).tokenize([sentence(100, seed=1)]).ids

    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_more_texts_than_the_tokenizer_takes_at_once_keep_their_order(
    tiny_model: TinyModel,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("bert"))
    texts = [sentence(i % 60, seed=i) for i in range(1_300)]

    found = make(tiny_model("bert"), max_length=40).tokenize(texts)

    assert found.ids == [plain_ids(tokenizer, text, max_length=40) for text in texts]
    expected = [len(tokenizer(text)["input_ids"]) > 40 for text in texts]
    assert found.truncated.tolist() == expected
    assert found.lengths.dtype == np.int32


def test_the_tokenizers_own_cutting_and_padding_are_not_taken_over(bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert)
    expected = plain_ids(tokenizer, sentence(50, seed=1), max_length=30)
    content = json.loads((bert / "tokenizer.json").read_text())
    content["truncation"] = {
        "direction": "Left",
        "max_length": 6,
        "strategy": "LongestFirst",
        "stride": 2,
    }
    content["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (bert / "tokenizer.json").write_text(json.dumps(content))

    found = make(bert, max_length=30).tokenize([sentence(50, seed=1), "a"])

    assert found.ids == [expected, [2, tokenizer.convert_tokens_to_ids("a"), 3]]
    assert found.truncated.tolist() == [True, False]


def test_no_room_for_the_template_is_an_option_error(tiny_model: TinyModel) -> None:
    with pytest.raises(OptionError, match="takes 4 of at most 4 tokens"):
        make(tiny_model("bert"), max_length=4, template="the cat {text}")
    with pytest.raises(OptionError, match="takes 2 of at most 2 tokens"):
        make(tiny_model("bert"), max_length=2)
    with pytest.raises(OptionError, match=r"takes 2 of at most 1 token$"):
        make(tiny_model("bert"), max_length=1)


def pieces_of_one_word() -> PreTrainedTokenizerFast:
    """A tokenizer to which the start of a long word is more tokens than the whole word."""
    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "b": 5, "##b": 6, "b" * 40: 7}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.mark.parametrize("space", [" ", "\n", "\t", "\r\n", "\u3000", "\u2003"])
def test_a_word_is_not_cut_in_two_by_the_first_cut(space: str) -> None:
    # With a maximum of 8, the first cut is at 128 characters: inside the long word.
    tokenizer = pieces_of_one_word()
    text = "a" + space * 119 + "b" * 40 + space + "a" + space * 20
    spec = describe_tokenizer(tokenizer)
    own = TextTokenizer(spec, template="{text}", max_length=8, needs_mask=False)

    found = own.tokenize([text])

    assert tokenizer(text)["input_ids"] == [2, 4, 7, 4, 3]
    assert found.ids == [[2, 4, 7, 4, 3]]
    assert found.truncated.tolist() == [False]


ODD = st.text(alphabet="ab \n\t\u3000.é中😀", max_size=400)


@settings(deadline=None, max_examples=200)
@given(st.lists(ODD, min_size=1, max_size=3), st.integers(3, 12))
def test_any_short_text_is_cut_as_the_tokenizer_itself_cuts_it(
    texts: list[str], max_length: int
) -> None:
    tokenizer = pieces_of_one_word()
    spec = describe_tokenizer(tokenizer)
    own = TextTokenizer(spec, template="{text}", max_length=max_length, needs_mask=False)

    found = own.tokenize(texts)

    assert found.ids == [plain_ids(tokenizer, text, max_length=max_length) for text in texts]
    n_whole = [len(tokenizer(text)["input_ids"]) for text in texts]
    assert found.truncated.tolist() == [n > max_length for n in n_whole]


ENORMOUS = {
    "words": "'word ' * 800_000",
    "one word": "'a' * 4_000_000",
    "emoji": "'😀' * 1_000_000",
    "chinese": "'中文' * 800_000",
    "leading spaces": "' ' * 4_000_000 + 'the cat'",
    "leading lines": "'\\n' * 4_000_000 + 'the cat'",
    "punctuation": "'?!' * 2_000_000",
}

# Each text plain and in a template with a suffix, where it is truncated in another way. At the end,
# to show that the measure works, 4 MB of such a text are tokenised whole.
MEASURE = """
import json, re, sys
from pathlib import Path
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.options import EncoderOptions, RuntimeOptions

def peak():
    # Not ru_maxrss, which starts at the size of the process that this one was forked from.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) // 1024

folder, texts = sys.argv[1], json.loads(sys.argv[2])
encoders = [
    TransformerEncoder(
        EncoderOptions(model=folder, template=template), runtime=RuntimeOptions(engine="torch")
    )
    for template in ("{text}", "a {text} means what")
]
for encoder in encoders:
    encoder.encode(["the cat"], [-1])
baseline = peak()
found = {}
for kind, expression in texts.items():
    text = eval(expression)
    truncated = [bool(encoder.encode([text], [-1]).truncated[0]) for encoder in encoders]
    found[kind] = [all(truncated), peak() - baseline]
encoders[0]._tokenizer._whole.encode("word " * 800_000)
found["whole"] = [False, peak() - baseline]
print(json.dumps(found))
"""


@pytest.mark.soak
def test_four_megabytes_of_any_text_take_little_more_memory(tiny_model: TinyModel) -> None:
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tiny_model("bert")), json.dumps(ENORMOUS)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found.pop("whole")[1] > 150
    assert list(found) == list(ENORMOUS)
    for kind, (is_truncated, grown_mib) in found.items():
        assert is_truncated, kind
        assert grown_mib < 100, kind
