"""The texts that a model is quantised by, and others that the result is checked on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

from layerdex.choices import Dtype
from layerdex.errors import (
    IndexMismatchError,
    MissingPackageError,
    ModelError,
    OptionError,
    SourceError,
)
from layerdex.indexer.engines.devices import cpu_has_int8
from layerdex.indexer.readers.sources import read_queries
from layerdex.options import RuntimeOptions
from layerdex.records import Quantization

logger = logging.getLogger(__name__)

METHOD = "nncf-ptq-2"
"""Layerdex's recipe; increase its number when a change to it changes vectors."""

N_CALIBRATING = 200
N_CHECKED = 500
_LEAST_CALIBRATING = 50
_LEAST_CHECKED = 100
_QUANTIZER = "nncf"
_NOT_CACHED = "is not in this machine's cache (for these versions of OpenVINO and torch)"


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

    file: str | None
    identity: tuple[str, str, str]
    known_texts: CalibrationTexts | None = None

    @classmethod
    def of_new(cls, file: str | None) -> Calibration:
        """Return the calibration of a new index. Raises `MissingPackageError` or `SourceError`."""
        installed = _installed_quantizer()
        if installed is None:
            raise MissingPackageError("int8 needs NNCF: pip install 'layerdex[int8]'")
        resolved = _resolve(file)
        texts = read_texts(resolved)
        return cls(resolved, (METHOD, installed, texts.digest), texts)

    @classmethod
    def of_index(cls, stored: Quantization, file: str | None) -> Calibration:
        """Return the calibration that an index was made with."""
        return cls(_resolve(file), stored.identity)

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
                f"the index's model in int8 {_NOT_CACHED}, and this Layerdex quantises in another "
                f"way ({METHOD}, not {method}): make a new index"
            )
        if quantizer != installed:
            raise ModelError(
                f"the index's model in int8 {_NOT_CACHED}, and was quantised by NNCF {quantizer}; "
                f"here is {installed or 'none'}: pip install nncf=={quantizer}, or make a new index"
            )
        try:
            texts = read_texts(self.file)
            reason = "are other ones now"
        except SourceError as error:
            texts, reason = None, f"cannot be read ({error})"
        if texts is None or texts.digest != digest:
            raise ModelError(
                f"the index's model in int8 {_NOT_CACHED}, and the texts that it was quantised by, "
                f"{self.file or 'those of another Layerdex'}, {reason}: name their file with "
                "--calibrate, or make a new index"
            )
        return texts


def check_texts(file: str, stored: Quantization) -> None:
    """Raise `IndexMismatchError` unless a file has the texts that an index's model was made by.

    Raises `SourceError` if it cannot be read.
    """
    if read_texts(file).digest != stored.calibration:
        raise IndexMismatchError(
            f"{file}: not the texts that the index's model was quantised by: name their file, "
            "leave out --calibrate if the model is in the cache, or make a new index"
        )


def _resolve(file: str | None) -> str | None:
    return None if file is None else str(Path(file).expanduser().resolve())


def read_texts(file: str | None) -> CalibrationTexts:
    """Return the texts of a file that ``index`` could read, or those of the package.

    A table's texts are in its column ``text``. Of a file's distinct texts, `N_CALIBRATING` evenly
    spaced ones calibrate and up to `N_CHECKED` of the others check; where fewer than 100 are left,
    the package's check. Raises `SourceError`.
    """
    if file is None:
        return CalibrationTexts(_packaged("calibration"), _packaged("check"))
    texts = list(dict.fromkeys(text for _, text in read_queries(file, text_field=None)))
    if len(texts) < _LEAST_CALIBRATING:
        raise SourceError(
            f"{file}: {len(texts)} distinct texts are too few to quantise a model by: give at "
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
    file: str | None, runtime: RuntimeOptions, *, stored: Quantization | None
) -> Calibration | None:
    """Return by what to quantise the model of a new index, or as ``stored``; None unless in int8.

    Raises `OptionError` for a file without int8, or for a new index on a CPU that computes slower
    in int8; and as `Calibration.of_new` does.
    """
    if runtime.dtype is not Dtype.INT8:
        if file is not None:
            raise OptionError("texts to calibrate by are for int8: add --dtype int8")
        return None
    if not cpu_has_int8():
        slow = (
            "this CPU has no VNNI or AMX, as far as is known, and without them int8 is slower than "
            "float32"
        )
        if stored is None:
            raise OptionError(f"{slow}: leave out --dtype int8")
        logger.warning("%s", slow)
    return Calibration.of_new(file) if stored is None else Calibration.of_index(stored, file)
