from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields, Reading, read_source
from layerdex.indexer.readers.json_shapes import read_json
from layerdex.indexer.readers.json_text import JsonText
from layerdex.indexer.readers.strict_json import StrictDecoder
from tests.indexer.readers.sources import documents, reasons


def read(tmp_path: Path, data: bytes) -> list[Reading]:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    return list(read_source(path))


class Trickle(io.BytesIO):
    """Gives a few bytes at a time, so that every place is once the end of what is there."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self.step = step

    def read(self, _size: int | None = -1, /) -> bytes:
        return super().read(self.step)


def test_line_is_where_the_element_starts(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf\n[\n{"text":\n "a"},\n\n {"text": " "}\r\n, {"text": "c"}]\n\n'
    readings = read(tmp_path, data)
    assert [reading.origin.line for reading in readings] == [3, 6, 7]
    assert reasons(readings) == [None, "text is blank", None]


def test_a_bad_element_is_named_where_several_share_a_line(tmp_path: Path) -> None:
    data = b'[{"text": ""}, {"text": "a"}, {"text": null},\n{"text": ""}, {"text": NaN}]'
    assert [str(one).partition("a.json")[2] for one in read(tmp_path, data)][0::2] == [
        ":1: text is empty",
        ":1, row 3: text is null",
        ":2, row 5: broken JSON: NaN is not a JSON value: write null",
    ]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64])
def test_elements_may_be_cut_anywhere(step: int) -> None:
    row = {"text": 'a"\\\u2028 \U0001f600 ]}', "n": -12.5e3, "t": True, "z": None}
    data = json.dumps([row, row]) + "\n"
    expected = json.dumps([row], ensure_ascii=False)
    for text in (data, expected):
        readings = documents(list(read_json(Trickle(text.encode(), step), "a", Fields())))
        assert {one.text for one in readings} == {row["text"]}
        assert readings[0].metadata == {"n": -12500.0, "t": True, "z": None}


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_numbers_are_not_taken_before_they_end(step: int) -> None:
    text = JsonText(Trickle(b"1234.5e+07 ,-Infinity", step), "a")
    decoder = StrictDecoder()
    assert text.peek() == "1"
    assert text.take(decoder) == 1234.5e7
    assert decoder.problem is None
    assert text.peek() == ","
    text.skip(1)
    text.peek()
    text.take(decoder)
    assert decoder.problem == "-Infinity is not a JSON value: write null"


def test_bad_elements_are_rejected_and_the_next_are_read(tmp_path: Path) -> None:
    data = b'[1, {"text": "a", "text": "b"}, {"text": NaN}, [], {"text": "c"}]'
    assert reasons(read(tmp_path, data)) == [
        "the row is not an object (int)",
        "broken JSON: key 'text' appears twice",
        "broken JSON: NaN is not a JSON value: write null",
        "the row is not an object (list)",
        None,
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ":1: a JSON array of objects is expected, or one object per line"),
        (b'"text"', ":1: a JSON array of objects is expected, or one object per line"),
        (b'[\n{"text": "a"}\n', ":3: broken JSON: ',' or ']' expected after an element"),
        (b'[\n{"text": "a"}\n{"text": "b"}]', ":3: broken JSON: ',' or ']' expected after"),
        (b'[{"text": "a"},\n]', ":2: broken JSON: Expecting value"),
        (b'[{"text": "a"},\n{"text": "b}]', ":2: broken JSON: Unterminated string"),
        (b'[{"text": "a"},\n{"text":\n tru}]', ":3: broken JSON: Expecting value"),
        (b'[{"text": "a"}]\n[', ":2: broken JSON: text after the array"),
        (b'[{"text": "a"},\n{"text": "\xff"}]', ":2: invalid UTF-8"),
        (b'[{"text": "a"},\n{"text": "\xc3', ":2: invalid UTF-8"),
        (b'[\n{"a":' + b"[" * 100_000, ":2: broken JSON: nested too deeply"),
    ],
)
def test_broken_array_cannot_be_read_on(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read(tmp_path, data)
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'}{message}")
    assert not str(caught.value).endswith((" at", ": "))


def test_empty_array_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, b" [ ] ") == []


def test_broken_syntax_is_found_without_reading_on() -> None:
    stream = io.BytesIO(b'[{"text": oops},' + b" " * 1_000_000 + b"]")
    with pytest.raises(SourceError, match="a:1: broken JSON: Expecting value"):
        list(read_json(stream, "a", Fields()))
    assert stream.tell() < 100_000
