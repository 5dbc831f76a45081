"""The command that comes after a training, read again by the command that it names."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layerdex.choices import Pooling, StoredPrecision
from layerdex.cli.commands.index import command
from layerdex.cli.options import SourceOptions
from layerdex.cli.render.tuning import _next_command
from layerdex.options import EncoderOptions, TextFile
from layerdex.records import EncoderSettings

ODD: dict[str, Any] = {
    "text_field": 'it\'s a "field"; $x',
    "format": "csv",
    "delimiter": ";",
    "encoding": "cp1252",
    "quoting": "none",
    "sheet": "my sheet",
}


@pytest.mark.parametrize("values", [{}, ODD, {"delimiter": "\t"}, {"text_field": "--text"}])
def test_a_file_to_calibrate_by_is_read_again_as_it_was(
    values: dict[str, Any], tmp_path: Path
) -> None:
    file = TextFile(str(tmp_path / "a b.csv"), **values)
    words = next_command(file)
    assert words.count("SOURCE") == 1
    line = shlex.join(words)
    assert line.isprintable()  # a terminal shows anything else in another form
    with command.make_context("index", shlex.split(line)[2:]) as context:
        given = context.params
    source = SourceOptions(**{field.name: given[field.name] for field in fields(SourceOptions)})
    encoder = EncoderOptions(calibration=given["calibration"])
    assert source.with_calibration(encoder).calibration == file


def next_command(file: TextFile) -> list[str]:
    settings = EncoderSettings(
        model="minilm",
        revision=None,
        pooling=Pooling.MEAN,
        template="{text}",
        max_length=40,
        depth=6,
        width=384,
        fingerprint="0" * 32,
        token_budget=1,
        window=1,
        calibration=file,
    )
    tuning: Any = SimpleNamespace(layer=4, adapter=Path("adapter"))
    info: Any = SimpleNamespace(query_template=None, precision=StoredPrecision.FLOAT16)
    return _next_command(tuning, settings, info)
