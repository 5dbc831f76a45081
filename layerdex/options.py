"""What an encoder is made of, and what it runs on: two objects that travel whole.

A new setting of the encoder is a field of `EncoderOptions`; a new setting of the machine is a field
of `RuntimeOptions`. Neither is unpacked on its way from the command line to the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from layerdex.arguments import check_count, check_type, to_choice
from layerdex.choices import Dtype, EngineName, LongText, Pooling

__all__ = ["EncoderOptions", "RuntimeOptions"]


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """The encoder of a new index: everything that decides a vector.

    ``None`` leaves a setting to the model, else to the default. ``model`` is ``minilm`` (the
    default), a local folder or a hub id, the last with a ``revision``. ``adapter`` is a folder that
    `Index.tune` wrote for the model. ``template`` is the text around each document, with ``{text}``
    in it. ``max_length`` is in tokens, special ones included; by default it is what the model's
    sentence-transformers files say, at most 512 otherwise. ``long`` says whether a longer text is
    cut or encoded in chunks.

    Strings are converted. Raises `OptionError` for a value that cannot be one of a setting.
    """

    model: str | None = None
    revision: str | None = None
    adapter: str | None = None
    pooling: Pooling | None = None
    template: str | None = None
    max_length: int | None = None
    long: LongText | None = None

    def __post_init__(self) -> None:
        """Convert and check what users give."""
        if self.template is not None:
            check_type(self.template, str, what="a template is a string")
        if self.max_length is not None:
            object.__setattr__(self, "max_length", check_count("max_length", self.max_length))
        if self.pooling is not None:
            object.__setattr__(self, "pooling", to_choice(Pooling, self.pooling))
        if self.long is not None:
            object.__setattr__(self, "long", to_choice(LongText, self.long))

    def given(self) -> dict[str, object]:
        """Return the settings that are not left to the model, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Where an encoder runs and in which dtype; no vector depends on it beyond the tolerance.

    ``engine`` is ``auto``, ``torch`` or ``openvino``; ``device`` is ``auto``, ``cpu``, ``cuda``
    (all GPUs) or ``cuda:N``; ``dtype`` is ``auto``, ``float32`` or ``bfloat16``. Strings are
    converted. Raises `OptionError` for any other engine or dtype.
    """

    engine: EngineName = EngineName.AUTO
    device: str = "auto"
    dtype: Dtype = Dtype.AUTO

    def __post_init__(self) -> None:
        """Convert and check what users give."""
        object.__setattr__(self, "engine", to_choice(EngineName, self.engine))
        object.__setattr__(self, "dtype", to_choice(Dtype, self.dtype))
        check_type(self.device, str, what="a device is a string such as cuda:1")
