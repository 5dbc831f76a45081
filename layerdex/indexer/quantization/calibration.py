"""The texts that a model is quantised by, and others that the result is checked on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

from layerdex.choices import Dtype
from layerdex.cpu import cpu_has_int8
from layerdex.errors import (
    IndexMismatchError,
    MissingPackageError,
    ModelError,
    OptionError,
    SourceError,
)
from layerdex.indexer.readers.common_names import DEFAULT_TEXT_NAME
from layerdex.indexer.readers.dialect import Dialect
from layerdex.indexer.readers.sources import may_block, read_texts
from layerdex.options import RuntimeOptions, TextFile
from layerdex.records import EncoderSettings, Quantization

logger = logging.getLogger(__name__)

METHOD = "nncf-ptq-2"
"""Layerdex's recipe; increase its number when a change to it changes vectors."""

N_CALIBRATING = 200
N_CHECKED = 500
_LEAST_CALIBRATING = 50
_LEAST_CHECKED = 100
_QUANTIZER = "nncf"
_SLOW = "this CPU is slower in int8 than in float32: as far as is known it has no VNNI and no AMX"
_NOT_AGAIN = (
    "this machine's cache does not have the index's model in int8 (for these versions of OpenVINO "
    "and torch), and it cannot be quantised again"
)


@dataclass(frozen=True, slots=True)
class CalibrationTexts:
    """Texts to quantise a model by, and others to check it on."""

    calibrating: tuple[str, ...]
    checked: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Digest of the calibrating texts in their order, 32 hex digits."""
        canonical = json.dumps(self.calibrating, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What decides how a model is quantised, and the file of its texts (None for our own).

    The texts of an index are read only if its model has to be quantised again.
    """

    file: TextFile | None
    identity: tuple[str, str, str]
    known_texts: CalibrationTexts | None = None

    @classmethod
    def of_new(cls, file: TextFile | None) -> Calibration:
        """Return the calibration of a new index. Raises `MissingPackageError` or `SourceError`."""
        installed = _installed_quantizer()
        if installed is None:
            raise MissingPackageError("int8 needs NNCF: pip install 'layerdex[int8]'")
        texts = read_calibration(file)
        return cls(file, (METHOD, installed, texts.digest), texts)

    @classmethod
    def of_index(cls, stored: Quantization, file: TextFile | None) -> Calibration:
        """Return the calibration that an index was made with."""
        return cls(file, stored.identity)

    def texts(self) -> CalibrationTexts:
        """Return the texts.

        Raises `ModelError` if this version of Layerdex or NNCF, or the file, is not the one that
        the index was made with.
        """
        if self.known_texts is not None:
            return self.known_texts
        method, quantizer, digest = self.identity
        installed = _installed_quantizer()
        if method != METHOD:
            raise ModelError(
                f"{_NOT_AGAIN}: it was made by the recipe {method}, and this Layerdex has "
                f"{METHOD}; make a new index"
            )
        if quantizer != installed:
            raise ModelError(
                f"{_NOT_AGAIN}: it was made by NNCF {quantizer}, and here is "
                f"{installed or 'none'}; pip install nncf=={quantizer}, or make a new index"
            )
        try:
            texts = read_calibration(self.file)
        except SourceError as error:
            raise ModelError(
                f"{_NOT_AGAIN}: its texts cannot be read ({error}); name their file with "
                "--calibrate, or make a new index"
            ) from error
        if texts.digest != digest:
            raise ModelError(
                f"{_NOT_AGAIN}: the texts that come with Layerdex have changed; make a new index"
                if self.file is None
                else f"{_NOT_AGAIN}: the texts in {self.file.path} have changed; name the file of "
                "the first ones with --calibrate, or make a new index"
            )
        return texts


def find_calibration(settings: EncoderSettings, path: str) -> TextFile:
    """Return a file that has the texts which an index's model was quantised by.

    It is read as the first one was. Raises `IndexMismatchError` for other texts or an exact index,
    `SourceError` for a file that cannot be read.
    """
    if settings.quantization is None:
        raise IndexMismatchError(
            "this index was not made in int8, and only models in int8 are made by texts: leave out "
            "--calibrate"
        )
    first = settings.calibration
    file = TextFile(path) if first is None else replace(first, path=path)
    if read_calibration(file).digest != settings.quantization.calibration:
        by = "those that come with Layerdex" if first is None else f"those of {first.path}"
        raise IndexMismatchError(
            f"this index's model was quantised by other texts ({by}) than those of {file.path}: "
            "leave out --calibrate, or make a new index"
        )
    return file


def read_calibration(file: TextFile | None) -> CalibrationTexts:
    """Return the texts of a file, or those of the package.

    Of a file's distinct texts, `N_CALIBRATING` evenly spaced ones calibrate and up to `N_CHECKED`
    of the others check; where fewer than 100 are left, the package's check. Raises `SourceError`.
    """
    if file is None:
        return CalibrationTexts(_packaged("calibration"), _packaged("check"))
    if may_block(file.path):
        raise SourceError(
            f"{file.path}: a pipe cannot be read again, if the model has to be quantised again: "
            "give a file or a folder"
        )
    dialect = Dialect(
        delimiter=file.delimiter, encoding=file.encoding, quoting=file.quoting, sheet=file.sheet
    )
    text_field = DEFAULT_TEXT_NAME if file.text_field is None else file.text_field
    rows = read_texts(file.path, text_field=text_field, format=file.format, dialect=dialect)
    texts = list(dict.fromkeys(rows))
    if len(texts) < _LEAST_CALIBRATING:
        raise SourceError(
            f"{file.path}: {len(texts)} distinct texts are too few to quantise a model by: give at "
            f"least {_LEAST_CALIBRATING}"
        )
    chosen = _spaced(texts, N_CALIBRATING)
    taken = set(chosen)
    rest = _spaced([text for text in texts if text not in taken], N_CHECKED)
    return CalibrationTexts(chosen, rest if len(rest) >= _LEAST_CHECKED else _packaged("check"))


def _spaced(texts: Sequence[str], n: int) -> tuple[str, ...]:
    n = min(n, len(texts))
    return tuple(texts[i * len(texts) // n] for i in range(n))


@cache
def _packaged(name: str) -> tuple[str, ...]:
    content = files(__package__).joinpath(f"{name}.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line)["text"] for line in content.splitlines())


def _installed_quantizer() -> str | None:
    try:
        return version(_QUANTIZER)
    except PackageNotFoundError:
        return None


def choose_calibration(
    file: TextFile | None, runtime: RuntimeOptions, *, stored: Quantization | None
) -> Calibration | None:
    """Return by what to quantise the model of a new index, or as ``stored``; None unless in int8.

    Raises `OptionError` for a file without int8, or for a new index on a CPU that computes slower
    in int8; and as `Calibration.of_new` does.
    """
    if runtime.dtype is not Dtype.INT8:
        if file is not None:
            raise OptionError("texts to calibrate by are for int8 only: add --dtype int8")
        return None
    if stored is not None:
        if not cpu_has_int8():
            logger.warning("this index was made in int8: %s", _SLOW)
        return Calibration.of_index(stored, file)
    if not cpu_has_int8():
        raise OptionError(f"{_SLOW}; leave out --dtype int8")
    return Calibration.of_new(file)
