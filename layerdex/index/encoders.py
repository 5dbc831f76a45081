"""The encoder of an index: made with it, and loaded again for its questions.

torch and transformers are imported when an encoder is needed, and then only if its engine is torch.
"""

from __future__ import annotations

from layerdex.arguments import check_count, check_type, format_value, to_choice
from layerdex.choices import LongText, Pooling
from layerdex.errors import OptionError
from layerdex.records import Encoder, EncoderSettings, TemplatedEncoder

_DEVICE = "a device is a string such as cuda:1"


def check_encoder(encoder: object) -> None:
    """Raise `OptionError` for what lacks the parts of the `Encoder` protocol."""
    settings = getattr(encoder, "settings", None)
    is_one = isinstance(settings, EncoderSettings) and callable(getattr(encoder, "encode", None))
    if not is_one:
        raise OptionError(
            f"an encoder has settings and encode (see Encoder), not {format_value(encoder)}"
        )


def make_encoder(
    model: str,
    *,
    revision: str | None,
    adapter: str | None,
    pooling: Pooling | str | None,
    template: str,
    max_length: int | None,
    long: LongText | str,
    device: str,
    dtype: str,
    engine: str,
) -> Encoder:
    """Load a model for a new index, its options as users give them (see `Index.create`)."""
    check_type(template, str, what="a template is a string")
    check_type(device, str, what=_DEVICE)
    from layerdex.choices import Dtype, EngineName
    from layerdex.indexer.encoder import TransformerEncoder

    return TransformerEncoder(
        model,
        revision=revision,
        adapter=adapter,
        pooling=None if pooling is None else to_choice(Pooling, pooling),
        template=template,
        max_length=None if max_length is None else check_count("max_length", max_length),
        long=to_choice(LongText, long),
        device=device,
        precision=to_choice(Dtype, dtype),
        engine=to_choice(EngineName, engine),
    )


def load_encoder(
    settings: EncoderSettings,
    *,
    given: Encoder | None,
    model: str | None,
    adapter: str | None,
    device: str,
    dtype: str,
    engine: str,
) -> Encoder:
    """Return the encoder ``given``, else load the one that an index was made with.

    Raises `IndexMismatchError` where its vectors could not be compared with the index's.
    """
    if given is not None:
        from layerdex.indexer.models.compatibility import check_fingerprint

        check_fingerprint(given.settings, settings)
        return given
    check_type(device, str, what=_DEVICE)
    from layerdex.choices import Dtype, EngineName
    from layerdex.indexer.encoder import TransformerEncoder

    return TransformerEncoder.for_index(
        settings,
        device=device,
        precision=to_choice(Dtype, dtype),
        engine=to_choice(EngineName, engine),
        model=model,
        adapter=adapter,
    )


def with_template(encoder: Encoder, template: str) -> Encoder:
    """Return an encoder of the same model with this template.

    Raises `OptionError` for a bad one, or an encoder of the user's own that knows none.
    """
    check_type(template, str, what="a template is a string")
    if template == encoder.settings.template:
        return encoder
    if not isinstance(encoder, TemplatedEncoder):
        raise OptionError("this encoder has no with_template (see TemplatedEncoder)")
    return encoder.with_template(template)
