"""The settings of an encoder and of the machine it runs on, each in one object.

Both objects are passed on whole, from the command line to the encoder. A new encoder setting is a
field of `EncoderOptions`, of `records.EncoderSettings` (what an index stores) and of the two front
ends (`cli`, `sklearn`); the fingerprint and the check against an index read its fields.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType

from layerdex.arguments import (
    check_count,
    check_type,
    expand_home,
    to_choice,
    to_delimiter,
    to_encoding,
    to_path,
)
from layerdex.choices import Dtype, EngineName, Format, LongText, Pooling, Quoting
from layerdex.errors import OptionError

__all__ = ["EncoderOptions", "RuntimeOptions", "TextFile"]


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file, or a folder, of texts that may have to be read again, and how it is read.

    The text is in ``text_field``, by default ``text``; the other fields are those of `Dialect`. The
    path is stored absolute. Strings are converted to enums. Raises `OptionError` for a value that
    cannot be one.
    """

    path: str
    text_field: str | None = None
    format: Format = Format.AUTO
    delimiter: str | None = None
    encoding: str | None = None
    quoting: Quoting = Quoting.AUTO
    sheet: str | None = None

    def __post_init__(self) -> None:
        """Convert and check the values, as a `Dialect` does."""
        if self.path == "-":
            raise OptionError("standard input cannot be read again: give a file of texts")
        path = to_path(self.path, what="a file of texts is a path")
        object.__setattr__(self, "path", str(expand_home(path).absolute()))
        check_type(self.text_field, (str, NoneType), what="text_field is a field's name")
        for name in ("delimiter", "encoding", "sheet"):
            check_type(getattr(self, name), (str, NoneType), what=f"{name} is a string")
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", to_delimiter(self.delimiter))
        if self.encoding is not None:
            object.__setattr__(self, "encoding", to_encoding(self.encoding))
        object.__setattr__(self, "format", to_choice(Format, self.format))
        object.__setattr__(self, "quoting", to_choice(Quoting, self.quoting))


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """Everything that decides a vector.

    ``None`` means the model's own value, or the default where the model has none. ``model`` is
    ``minilm`` (the default), a local folder or a hub id; only a hub id can have a ``revision``.
    ``adapter`` is a folder that `Index.tune` wrote for the model. ``template`` is the text around
    each document, with ``{text}`` in it; by default the model's default prompt, if it has one.
    ``max_length`` is in tokens, special tokens included; the default is the value in the model's
    sentence-transformers files, else at most 512. ``long`` says whether a longer text is truncated
    or encoded in chunks. ``calibration`` is the file of the texts by which a model is quantised to
    int8 (see `RuntimeOptions`), a `TextFile` or a path; by default these come with Layerdex.

    Strings are converted to enums. Raises `OptionError` for an invalid value.
    """

    model: str | None = None
    revision: str | None = None
    adapter: str | None = None
    pooling: Pooling | None = None
    template: str | None = None
    max_length: int | None = None
    long: LongText | None = None
    calibration: TextFile | None = None

    def __post_init__(self) -> None:
        """Convert and check the values."""
        if self.template is not None:
            check_type(self.template, str, what="a template is a string")
        if self.max_length is not None:
            object.__setattr__(self, "max_length", check_count("max_length", self.max_length))
        file: object = self.calibration
        if isinstance(file, str | Path):
            object.__setattr__(self, "calibration", TextFile(str(file)))
        else:
            check_type(file, (TextFile, NoneType), what="a calibration is a `TextFile` or a path")
        if self.pooling is not None:
            object.__setattr__(self, "pooling", to_choice(Pooling, self.pooling))
        if self.long is not None:
            object.__setattr__(self, "long", to_choice(LongText, self.long))

    def chosen(self) -> dict[str, object]:
        """Return the settings that are not None, by name, in the order of the fields."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Where an encoder runs and in which dtype; vectors depend on it only within the tolerance.

    ``engine`` is ``auto``, ``torch`` or ``openvino``; ``device`` is ``auto``, ``cpu``, ``cuda``
    (all GPUs) or ``cuda:N``; ``dtype`` is ``auto``, ``float32``, ``bfloat16`` or ``int8``. In int8
    a model is another encoder, whose vectors do not mix with those of the others: the index of such
    an encoder is opened with ``auto`` or ``int8``.
    Strings are converted to enums. Raises `OptionError` for any other engine or dtype.
    """

    engine: EngineName = EngineName.AUTO
    device: str = "auto"
    dtype: Dtype = Dtype.AUTO

    def __post_init__(self) -> None:
        """Convert and check the values."""
        object.__setattr__(self, "engine", to_choice(EngineName, self.engine))
        object.__setattr__(self, "dtype", to_choice(Dtype, self.dtype))
        check_type(self.device, str, what="a device is a string such as cuda:1")
