from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import Dialect, Fields, Reading, read_source
from layerdex.indexer.readers.encoding import ADVICE
from layerdex.records import UNSET
from tests.indexer.readers.sources import documents, reasons


def read(
    tmp_path: Path, data: bytes, *, suffix: str = "csv", dialect: Dialect | None = None
) -> list[Reading]:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    return list(read_source(path, dialect=dialect))


def test_line_is_the_first_of_a_row_with_quoted_newlines(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbftext,n\r\n"a\r\nb ""c""",1\r\n\r\n"d,e",2\r\n'
    readings = documents(read(tmp_path, data))
    assert [(one.text, one.origin.line) for one in readings] == [('a\r\nb "c"', 2), ("d,e", 5)]
    assert [one.metadata for one in readings] == [{"n": "1"}, {"n": "2"}]


def test_empty_cells_are_null(tmp_path: Path) -> None:
    (document,) = documents(read(tmp_path, b"text,id,label\na,,\n"))
    assert (document.id, document.label) == (None, None)
    (document,) = documents(read(tmp_path, b"text,year\na,\n"))
    assert document.metadata == {"year": None}
    (document,) = documents(read(tmp_path, b"text,id\na,007\n"))
    assert (document.id, document.label) == ("007", UNSET)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"a", "1 cell, but the header has 2"),
        (b"a,b,c", "3 cells, but the header has 2"),
        (b"\xff,b", f"invalid UTF-8 in column 'text'; {ADVICE}"),
        (b"a,\xed\xa0\x80", f"invalid UTF-8 in column 'n'; {ADVICE}"),
        (b"a,b,\xff", f"invalid UTF-8; {ADVICE}"),
        (b'"a"b,c', "broken quoting: ',' expected after '\"'; --quoting none reads quotes as text"),
    ],
)
def test_bad_row_is_rejected_and_the_next_is_read(row: bytes, reason: str, tmp_path: Path) -> None:
    readings = read(tmp_path, b"text,n\nok,1\n" + row + b"\nok,2\n")
    assert reasons(readings) == [None, reason, None]
    assert [reading.origin.line for reading in readings] == [2, 3, 4]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ": is empty; the first row must name the columns"),
        (b"\n\n", ": is empty; the first row must name the columns"),
        (b"text,n,n\n", ": 'n' is the name of more than one column"),
        (b"text, n ,n\n", ": 'n' is the name of more than one column"),
        (b"text,\xff\n", f":1: invalid UTF-8 in the header; {ADVICE}"),
        (
            b'"te"xt\na\n',
            ":1: broken header: ',' expected after '\"'; --quoting none reads quotes as text",
        ),
        (
            b"text,a\0b\nx,y\n",
            ": the name of column 'a\\x00b' contains a NUL character; rename it, or name the "
            "columns to keep with --metadata-field",
        ),
        (
            b"id^body^n\n1^a^b\n",
            ": no text field 'text'; there is 'id^body^n'",
        ),
    ],
)
def test_broken_table_cannot_be_read(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read(tmp_path, data)
    assert str(caught.value) == f"{tmp_path / 'a.csv'}{message}"


def test_cells_may_be_longer_than_the_modules_default(tmp_path: Path) -> None:
    (document,) = documents(read(tmp_path, b"text\n" + b"a" * 1_000_000 + b"\n"))
    assert len(document.text) == 1_000_000


def test_header_alone_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, b"text\n") == []


def test_text_column_may_be_called_id(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,n\n,1\n")
    assert reasons(list(read_source(path, fields=Fields(text="id")))) == ["text is empty"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_csv_is_recognised(
    delimiter: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.csv"
    cells = {"text": ["one, two; three | four", 'a "word"'], "label": ["x", "y"], "n": [1, 2]}
    pd.DataFrame(cells).to_csv(path, sep=delimiter, index=False)
    readings = documents(list(read_source(path)))
    assert [one.text for one in readings] == cells["text"]
    assert [one.label for one in readings] == cells["label"]
    word = "tab" if delimiter == "\t" else f"'{delimiter}'"
    said = [] if delimiter == "," else [f"{path}: read with the delimiter {word}; see --delimiter"]
    assert [one for one in caplog.messages if "delimiter" in one] == said


def test_the_delimiter_is_the_one_by_which_the_header_names_the_text(tmp_path: Path) -> None:
    (document,) = documents(read(tmp_path, b"text;likes, shares, views\nfine;3, 4, 5\n"))
    assert document.metadata == {"likes, shares, views": "3, 4, 5"}
    (document,) = documents(read(tmp_path, b"text,a;b;c;d\nfine,1\n"))
    assert document.metadata == {"a;b;c;d": "1"}
    (document,) = documents(read(tmp_path, b"text\na;b|c\n"))
    assert document.text == "a;b|c"


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    ("delimiter", "given"), [("^", "^"), ("\t", "tab"), ("\t", "\\t"), (";", ";")]
)
def test_any_delimiter_can_be_given(
    delimiter: str, given: str, suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = f"id{delimiter}text\n1{delimiter}a, b\n".encode()
    (document,) = documents(read(tmp_path, data, suffix=suffix, dialect=Dialect(delimiter=given)))
    assert (document.id, document.text) == ("1", "a, b")
    assert caplog.messages == []


def test_another_delimiter_of_tsv_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read(tmp_path, b"id;text\n1;a\n", suffix="tsv")
    assert str(caught.value) == (
        f"{tmp_path / 'a.tsv'}: no text field 'text'; there is 'id;text', read with the delimiter "
        "tab; try --delimiter ';'"
    )


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"'])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_the_first_line_may_name_the_delimiter(line: str, line_end: str, tmp_path: Path) -> None:
    data = line_end.join([line, "text;n", "a, b;1", "c;2;3", ""])
    readings = read(tmp_path, data.encode())
    assert documents(readings[:1])[0].text == "a, b"
    assert reasons(readings[1:]) == ["3 cells, but the header has 2"]
    if line_end != "\r":
        assert [one.origin.line for one in readings] == [3, 4]


@pytest.mark.parametrize("line", [b'sep="', b"sep=\xbb", b"sep=", b"sep=;;"])
def test_a_first_line_that_names_no_delimiter_is_a_header(line: bytes, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no text field|invalid UTF-8 in the header|quote"):
        read(tmp_path, line + b"\ntext;n\n")


def test_blanks_after_the_delimiters_belong_to_no_cell(tmp_path: Path) -> None:
    data = b'id, text , label\n1, "Dry, but light" , pos \n2, one word, neg\n'
    readings = read(tmp_path, data)
    assert reasons(readings)[0] is not None  # a blank between quote and comma is broken quoting
    data = b'id, text , label\n1, "Dry, but light", pos \n2,  "quoted" word , neg\n'
    first, second = read(tmp_path, data)
    one = documents([first])[0]
    assert (one.id, one.text, one.label) == ("1", "Dry, but light", "pos")
    assert reasons([second]) == [
        "broken quoting: ',' expected after '\"'; --quoting none reads quotes as text"
    ]


def test_a_text_keeps_the_blanks_at_its_end(tmp_path: Path) -> None:
    (document,) = documents(read(tmp_path, b"id, text, label, n\n 1 ,  fine , pos , 3 \n"))
    assert (document.id, document.text, document.label) == ("1", "fine ", "pos")
    assert document.metadata == {"n": "3"}


def test_blanks_after_every_delimiter_below_the_header_belong_to_no_cell(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = b'id,text,label\n1, "Dry, but light", pos\n2, one word,\n'
    readings = documents(read(tmp_path, data))
    assert [(one.text, one.label) for one in readings] == [
        ("Dry, but light", "pos"),
        ("one word", None),
    ]
    source = tmp_path / "a.csv"
    assert caplog.messages == [f"{source}: blanks after the delimiters are read as part of no cell"]


def test_blanks_in_cells_stay_where_they_are_not_everywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = b"text,label,n\n fine, pos,  \n worn,neg,1\n"
    first, _ = documents(read(tmp_path, data))
    assert (first.text, first.label, first.metadata) == (" fine", " pos", {"n": "  "})
    (document,) = documents(read(tmp_path, b"text\n fine\n"))
    assert document.text == " fine"
    assert caplog.messages == []


def test_names_have_no_blanks_around_them_whoever_gives_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id, body, topic, m\n1, fine, pos, x\n")
    fields = Fields(text=" body", id="id ", label=" topic", metadata=(" m",))
    for one in (fields, Fields(text="body", id="id", label="topic", metadata=("m",))):
        (document,) = documents(list(read_source(path, fields=one)))
        assert (document.id, document.text, document.label) == ("1", "fine", "pos")
        assert document.metadata == {"m": "x"}


def test_the_index_column_of_pandas_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.csv"
    pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}).to_csv(path)
    readings = documents(list(read_source(path)))
    assert [(one.text, one.label, one.metadata) for one in readings] == [
        ("a", "x", {}),
        ("b", "y", {}),
    ]
    assert caplog.messages == [f"{path}: column 1 has values but no name, and is left out"]


def test_empty_columns_and_cells_at_the_end_are_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = b"text,n,,\r\na,1,,\r\nb,2\r\nc,3,,,,\r\nd,4,\r\n"
    readings = documents(read(tmp_path, data))
    assert [(one.text, one.metadata) for one in readings] == [
        (text, {"n": n}) for text, n in zip("abcd", "1234", strict=True)
    ]
    assert caplog.messages == []


def test_values_beyond_the_header_and_missing_cells_are_rejected(tmp_path: Path) -> None:
    readings = read(tmp_path, b"text,n,\na,1,,x\nb\nc,,\n")
    assert reasons(readings) == [
        "4 cells, but the header has 3",
        "1 cell, but the header has 3",
        None,
    ]


def test_blank_rows_of_a_spreadsheet_are_no_rows(tmp_path: Path) -> None:
    readings = documents(read(tmp_path, b"text,n\n,\na,1\n,,,\n\nb,2\n,\n"))
    assert [(one.text, one.origin.line) for one in readings] == [("a", 3), ("b", 6)]


def test_a_bad_name_is_no_fault_of_a_column_that_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,a\0b,n\nx,y,1\n")
    (document,) = documents(list(read_source(path, fields=Fields(metadata=("n",)))))
    assert document.metadata == {"n": "1"}


@pytest.mark.parametrize(
    ("above", "advice"),
    [
        ("Complaints of May,\n", "; line 2 names it: remove what is above that line"),
        ("Complaints,\n\nby hand,\n", "; line 4 names it: remove what is above that line"),
        ("a,b\n" * 10, ""),
    ],
)
def test_a_header_below_a_title_is_pointed_to(above: str, advice: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{above}text,n\nLate,1\n")
    with pytest.raises(SourceError) as caught:
        list(read_source(path))
    assert str(caught.value).startswith(f"{path}: no text field 'text'; there is ")
    assert str(caught.value).partition("; line")[2] == advice.partition("; line")[2]
