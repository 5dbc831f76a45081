"""Quotes in tab-separated tables: enclosing cells, or part of the text."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdex.choices import Format
from layerdex.errors import SourceError
from layerdex.indexer.readers import Dialect, Fields, Reading, read_source
from layerdex.indexer.readers.streams import CHUNK_BYTES
from tests.indexer.readers.sources import documents, reasons

BARE = (
    "text\tlabel\n"
    "the hinge is loose\tbad\n"
    '"quite a bargain\tgood\n'
    "arrived on a Monday\tgood\n"
    'the box said 12"\tbad\n'
)


def read(path: Path, data: str, dialect: Dialect | None = None) -> list[Reading]:
    path.write_bytes(data.encode())
    return list(read_source(path, dialect=dialect))


def pipe(data: str, dialect: Dialect | None = None) -> list[Reading]:
    stdin = io.BytesIO(data.encode())
    return list(read_source("-", format=Format.TSV, stdin=stdin, dialect=dialect))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.tsv"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_quotes_without_a_partner_are_text(
    path: Path, line_end: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = [line.split("\t") for line in BARE.splitlines()[1:]]
    for readings in (read(path, BARE.replace("\n", line_end)), pipe(BARE)):
        found = documents(readings)
        assert [[one.text, one.label] for one in found] == expected
        assert [one.origin.line for one in found] == [2, 3, 4, 5]
    assert caplog.messages == [
        f"{source}:3: quotes are part of the text, as every line fits the header so; "
        "--quoting csv lets them enclose cells"
        for source in (path, "<stdin>")
    ]


def test_a_text_may_begin_with_a_quotation(path: Path) -> None:
    data = 'text\tlabel\n"No," she wrote, "never again"\tbad\n"fine"\tgood\n'
    assert [one.text for one in documents(read(path, data))] == [
        '"No," she wrote, "never again"',
        '"fine"',
    ]
    (document,) = documents(read(path, 'text\tn\n"fine"\t1\n', Dialect(quoting="csv")))
    assert document.text == "fine"


def test_a_table_of_pandas_is_read_as_pandas_reads_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["a\ttab", 'she said "no"', "two\nlines", "plain", '"']
    pd.DataFrame({"text": texts, "label": list("abcab")}).to_csv(path, sep="\t", index=False)
    back = pd.read_csv(path, sep="\t")
    for readings in (list(read_source(path)), pipe(path.read_text())):
        assert [one.text for one in documents(readings)] == back["text"].to_list() == texts
    assert caplog.messages == [
        f"{source}: quotes enclose cells, as line 2 does not fit otherwise; "
        "--quoting none reads them as part of the text"
        for source in (path, "<stdin>")
    ]


def test_the_header_decides_where_one_reading_names_the_text(path: Path) -> None:
    data = '"text"\t"label"\n"fine"\t"good"\n"ragged"\n'
    readings = read(path, data)
    assert documents(readings[:1])[0].label == "good"
    assert reasons(readings[1:]) == ["1 cell, but the header has 2; see --quoting"]


def test_a_table_that_fits_neither_way_is_one_error(path: Path) -> None:
    data = 'text\tlabel\n"fine"\tgood\nragged\n"worn"\tbad\n'
    for source in (path, "<stdin>"):
        with pytest.raises(SourceError) as caught:
            pipe(data) if source == "<stdin>" else read(path, data)
        assert str(caught.value) == (
            f"{source}:3: 1 cell, but the header has 2; with quotes that enclose cells line 3 does "
            "not fit either (1 cell, but the header has 2); choose with --quoting none or "
            "--quoting csv"
        )
    for quoting, expected in (("none", ['"fine"', '"worn"']), ("csv", ["fine", "worn"])):
        first, ragged, last = read(path, data, Dialect(quoting=quoting))
        assert [one.text for one in documents([first, last])] == expected
        assert reasons([ragged]) == ["1 cell, but the header has 2"]


def test_quotes_never_enclose_whole_rows_by_mistake(path: Path) -> None:
    data = 'id\ttext\n1\t"so bright\n2\tragged\tline\n3\tsharp\n4\tof 6"\n'
    with pytest.raises(SourceError) as caught:
        read(path, data)
    assert str(caught.value) == (
        f"{path}:3: 3 cells, but the header has 2; with quotes that enclose cells line 2 does not "
        "fit either (a cell encloses whole lines of as many cells as the header); choose with "
        "--quoting none or --quoting csv"
    )
    assert [one is None for one in reasons(read(path, data, Dialect(quoting="none")))] == [
        True,
        False,
        True,
        True,
    ]
    assert len(documents(read(path, data, Dialect(quoting="csv")))) == 1


def test_without_quotes_nothing_is_said_and_rows_are_judged_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = 'text\tlabel\n6" wide\ta\n\nragged\n\nfine\tb\n'
    for readings in (read(path, data), pipe(data)):
        assert reasons(readings) == [None, "1 cell, but the header has 2", None]
        assert [one.origin.line for one in readings] == [2, 4, 6]
    assert caplog.messages == []


def test_the_last_line_of_a_short_pipe_counts_without_a_line_end() -> None:
    (document,) = documents(pipe('text\tlabel\n"a\tb"\tgood'))
    assert document.text == "a\tb"


def test_a_whole_file_decides_and_of_a_pipe_the_first_window(path: Path) -> None:
    plain = "a plain text\tgood\n" * (2 * CHUNK_BYTES // 18)
    late = f'text\tlabel\n"first"\tgood\n{plain}"with a\ttab"\tbad\n'
    from_file = documents(read(path, late))
    assert (from_file[0].text, from_file[-1].text) == ("first", "with a\ttab")
    from_pipe = pipe(late)
    assert documents(from_pipe[:1])[0].text == '"first"'
    assert len(from_pipe) == len(from_file)
    assert reasons(from_pipe[-1:]) == ["3 cells, but the header has 2; see --quoting"]
    assert len(documents(from_pipe[:-1])) == len(from_file) - 1


def test_quotes_after_the_first_window_of_a_pipe_are_noted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = "a plain text\tgood\n" * (2 * CHUNK_BYTES // 18)
    readings = documents(pipe(f'text\tlabel\n{plain}"late\tbad\n"later\tbad\n'))
    assert [one.text for one in readings[-2:]] == ['"late', '"later']
    (message,) = caplog.messages
    assert message.startswith(f"<stdin>:{len(readings)}: quotes are part of the text")


def test_a_quoted_cell_may_go_on_after_the_window_of_a_pipe() -> None:
    long = "x" * 100 + "\n"
    data = f'text\tlabel\n"with a\ttab"\tgood\n"{long * 2000}"\tbad\n'
    assert [one.label for one in documents(pipe(data))] == ["good", "bad"]


def test_an_open_quote_encloses_no_rows_up_to_the_end_of_the_window_of_a_pipe() -> None:
    plain = "a plain text\tgood\n" * (2 * CHUNK_BYTES // 18)
    with pytest.raises(SourceError, match=r"^<stdin>:2: 3 cells, .* line 3 does not fit either"):
        pipe(f'text\tlabel\n"with a\ttab"\tgood\n"quite a bargain\tgood\n{plain}')


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_quotes_enclose_cells_of_csv_unless_said_otherwise(tmp_path: Path, delimiter: str) -> None:
    data = f'text{delimiter}label\n"fine"{delimiter}good\n'
    path = tmp_path / "a.csv"
    assert documents(read(path, data))[0].text == "fine"
    assert documents(read(path, data, Dialect(quoting="none")))[0].text == '"fine"'


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\t\r\n\0"), min_size=1)
TEXTS = CELLS.filter(lambda text: not text.isspace())
ROWS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1)


@given(ROWS)
def test_tables_written_without_quoting_keep_every_character(rows: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.tsv")
        found = read(path, "".join("\t".join(row) + "\n" for row in [("text", "label"), *rows]))
    assert [(one.text, one.label) for one in documents(found)] == rows


# A line with a tab within a cell of several lines looks like a row.
def _without(excluded: str) -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8", exclude_characters=excluded), min_size=1)


WILD = st.one_of(_without("\0\r\t"), _without("\0\r\n"))
WILD_TEXTS = WILD.filter(lambda text: not text.isspace())


@given(st.lists(st.tuples(WILD_TEXTS, WILD_TEXTS)))
def test_tables_written_with_quoting_are_read_so_where_it_was_needed(
    rows: list[tuple[str, str]],
) -> None:
    rows = [*rows, ("a\ttab", "needs quotes")]
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.tsv")
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t").writerows([("text", "label"), *rows])
        found = list(read_source(path, fields=Fields()))
    assert [(one.text, one.label) for one in documents(found)] == rows
