"""The texts that a model is quantised by, and how near it stays to float32."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex.choices import Dtype, LongText, Pooling
from layerdex.errors import MissingPackageError, ModelError, OptionError, SourceError
from layerdex.indexer.models.fingerprint import fingerprint, read_contents
from layerdex.indexer.quantization import calibration
from layerdex.indexer.quantization.calibration import (
    METHOD,
    N_CALIBRATING,
    N_CHECKED,
    Calibration,
    choose_calibration,
    read_calibration,
)
from layerdex.indexer.quantization.fidelity import (
    LEAST_MEAN_COSINE,
    check_fidelity,
    check_requantized,
    measure_fidelity,
)
from layerdex.indexer.readers.dialect import Dialect
from layerdex.options import EncoderOptions, RuntimeOptions, TextFile
from layerdex.records import Quantization

INT8 = RuntimeOptions(dtype=Dtype.INT8)
MADE = Quantization(
    method=METHOD,
    version="3.4.0",
    calibration="0" * 32,
    n_calibrating=200,
    n_checked=500,
    mean_cosines=(1.0, 0.996, 0.995),
    lowest_cosines=(1.0, 0.97, 0.96),
    overlaps=(1.0, 0.97, 0.95),
)


def numbered(folder: Path, n: int) -> TextFile:
    (folder / "texts.txt").write_text("".join(f"text number {i}\n" for i in range(n)))
    return TextFile(str(folder / "texts.txt"))


def test_the_packages_texts_are_many_and_none_calibrates_and_checks() -> None:
    texts = read_calibration(None)
    assert (len(texts.calibrating), len(texts.checked)) == (N_CALIBRATING, N_CHECKED)
    assert len({*texts.calibrating, *texts.checked}) == N_CALIBRATING + N_CHECKED
    lengths = sorted(len(text) for text in texts.calibrating)
    assert lengths[0] < 20
    assert lengths[-1] > 1_000
    is_ascii = [text.isascii() for text in texts.calibrating]
    assert 0.3 < np.mean(is_ascii) < 0.8  # scripts are mixed


def test_a_files_texts_are_spaced_and_the_others_check(tmp_path: Path) -> None:
    texts = read_calibration(numbered(tmp_path, 1_000))
    assert texts.calibrating == tuple(f"text number {i}" for i in range(0, 1_000, 5))
    assert len(texts.checked) == N_CHECKED
    assert not {*texts.calibrating} & {*texts.checked}
    assert read_calibration(numbered(tmp_path, 1_000)).digest == texts.digest
    assert read_calibration(numbered(tmp_path, 999)).digest != texts.digest


def test_repeats_of_a_text_count_once_and_few_texts_are_checked_by_the_packages(
    tmp_path: Path,
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"text number {i % 60}\n" for i in range(600)))
    texts = read_calibration(TextFile(str(file)))
    assert len(texts.calibrating) == 60
    assert texts.checked == read_calibration(None).checked


def test_too_few_texts_are_an_error_with_their_number(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"49 distinct texts are too few .* at least 50"):
        read_calibration(numbered(tmp_path, 49))


def test_a_folder_is_read_and_what_cannot_be_read_again_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i:02}.txt").write_text(f"text number {i}\n")
    assert len(read_calibration(TextFile(str(folder))).calibrating) == 60
    with pytest.raises(OptionError, match="standard input cannot be read again: give a file"):
        TextFile("-")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="pipe cannot be read again"):
        read_calibration(TextFile(str(tmp_path / "pipe")))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"path": "~nosuchuser/x"}, "~nosuchuser/x: there is no home folder of that name"),
        ({"delimiter": 5}, "delimiter is a string, not 5"),
        ({"delimiter": [1]}, r"delimiter is a string, not \[1\]"),
        ({"delimiter": ";;"}, "delimiter must be one character"),
        ({"encoding": 5}, "encoding is a string, not 5"),
        ({"encoding": "base64"}, "'base64' is not an encoding that Python knows"),
        ({"sheet": 3}, "sheet is a string, not 3"),
    ],
)
def test_what_a_file_of_texts_cannot_have_is_an_error_at_once(
    values: dict[str, Any], reason: str
) -> None:
    with pytest.raises(OptionError, match=reason):
        TextFile(**{"path": "texts.csv", **values})


def test_a_file_of_texts_is_converted_as_a_dialect_is() -> None:
    given: dict[str, Any] = {"delimiter": "tab", "encoding": "UTF-8-SIG", "sheet": "one"}
    file, dialect = TextFile("texts.tsv", **given), Dialect(**given)
    for name in given:
        assert getattr(file, name) == getattr(dialect, name)
    assert (file.delimiter, file.encoding) == ("\t", "utf-8")
    assert hash(file) == hash(TextFile("texts.tsv", **given))


def test_texts_to_calibrate_by_need_int8(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="add --dtype int8"):
        choose_calibration(numbered(tmp_path, 60), RuntimeOptions(), stored=None)
    assert choose_calibration(None, RuntimeOptions(), stored=None) is None


def test_a_cpu_that_is_slower_in_int8_makes_no_index_and_answers_from_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(calibration, "cpu_has_int8", lambda: False)
    with pytest.raises(OptionError, match=r"slower in int8 than .*; leave out --dtype int8"):
        choose_calibration(None, INT8, stored=None)
    chosen = choose_calibration(None, INT8, stored=MADE)
    assert chosen is not None
    assert chosen.identity == MADE.identity
    assert "made in int8: this CPU is slower" in caplog.text


@pytest.mark.parametrize(
    "made",
    [replace(MADE, version="1.0"), replace(MADE, method="nncf-ptq-0"), MADE],
    ids=["another NNCF", "another recipe", "other texts"],
)
def test_an_index_is_quantised_again_only_as_it_was(
    made: Quantization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_installed_quantizer", lambda: "3.4.0")
    with pytest.raises(ModelError, match="make a new index"):
        Calibration.of_index(made, None).texts()
    same = replace(MADE, calibration=read_calibration(None).digest)
    assert Calibration.of_index(same, None).texts() == read_calibration(None)


def test_without_nncf_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_installed_quantizer", lambda: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'layerdex\[int8\]'"):
        Calibration.of_new(None)


def test_figures_are_those_of_a_loop() -> None:
    random = np.random.default_rng(1)
    exact = random.normal(size=(3, 40, 8)).astype(np.float32)
    other = exact + 0.2 * random.normal(size=exact.shape).astype(np.float32)
    exact, other = (each / np.linalg.norm(each, axis=2, keepdims=True) for each in (exact, other))

    found = measure_fidelity(exact, other)

    for layer in range(3):
        cosines = [float(a @ b) for a, b in zip(exact[layer], other[layer], strict=True)]
        assert found.mean_cosines[layer] == pytest.approx(np.mean(cosines), abs=1e-5)
        assert found.lowest_cosines[layer] == pytest.approx(min(cosines), abs=1e-5)
        shares = []
        for i in range(40):
            nearest = [
                [int(j) for j in np.argsort(-(each[layer] @ each[layer][i])) if j != i][:10]
                for each in (exact, other)
            ]
            shares.append(len({*nearest[0]} & {*nearest[1]}) / 10)
        assert found.overlaps[layer] == pytest.approx(np.mean(shares), abs=1e-6)
    assert measure_fidelity(exact, exact).overlaps == (1.0, 1.0, 1.0)


def test_each_part_of_how_it_is_made_makes_another_encoder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    contents = read_contents(tmp_path)
    options = EncoderOptions("m", None, None, Pooling.MEAN, "{text}", 10, LongText.TRUNCATE)
    others = (
        None,
        MADE,
        replace(MADE, method="nncf-ptq-0"),
        replace(MADE, version="3.5.0"),
        replace(MADE, calibration="1" * 32),
    )
    assert len({fingerprint(contents, options, made) for made in others}) == len(others)
    measured_elsewhere = replace(MADE, mean_cosines=(0.9999, 0.997, 0.996))
    assert fingerprint(contents, options, measured_elsewhere) == fingerprint(
        contents, options, MADE
    )


def test_a_layer_below_the_bound_is_refused_with_its_figures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    check_fidelity(MADE, name="a", force=False)
    low = replace(MADE, mean_cosines=(1.0, LEAST_MEAN_COSINE - 1e-6, 0.999))
    with pytest.raises(ModelError, match=r"0.9950 to 1.0000 by layer, lowest 0.96.*--force-int8"):
        check_fidelity(low, name="a", force=False)
    with pytest.raises(ModelError, match="too far"):
        check_fidelity(replace(MADE, mean_cosines=(1.0, np.nan)), name="a", force=False)
    check_fidelity(low, name="a", force=True)
    assert "too far from float32" in caplog.text


def test_a_graph_that_is_made_again_must_be_as_near_as_the_first() -> None:
    check_requantized(replace(MADE, mean_cosines=(1.0, 0.991, 0.989)), MADE, name="a")
    for mean in (0.98, np.nan):
        worse = replace(MADE, mean_cosines=(1.0, mean, 0.999))
        with pytest.raises(ModelError, match="not as near to float32 as when"):
            check_requantized(worse, MADE, name="a")


def test_equal_vectors_are_all_neighbours() -> None:
    random = np.random.default_rng(1)
    vectors = np.repeat(np.eye(4, dtype=np.float32)[:1], 30, axis=0)[np.newaxis]
    noise = 1e-7 * random.normal(size=vectors.shape).astype(np.float32)
    assert measure_fidelity(vectors, vectors + noise).overlaps == (1.0,)
