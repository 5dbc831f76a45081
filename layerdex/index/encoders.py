"""The encoder of an index: made with it, and loaded again for its questions.

torch and transformers are imported when an encoder is needed, and then only if its engine is torch.
"""

from __future__ import annotations

from layerdex.arguments import check_type, format_value
from layerdex.errors import OptionError
from layerdex.options import EncoderOptions, RuntimeOptions
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


def make_encoder(options: EncoderOptions, runtime: RuntimeOptions) -> Encoder:
    """Load a model for a new index."""
    from layerdex.indexer.encoder import TransformerEncoder

    return TransformerEncoder(options, runtime=runtime)


def load_encoder(
    settings: EncoderSettings,
    *,
    encoder: Encoder | None,
    model: str | None,
    adapter: str | None,
    runtime: RuntimeOptions,
) -> Encoder:
    """Return ``encoder`` if given, else load the one that an index was made with."""
    from layerdex.indexer.encoder import TransformerEncoder

    if encoder is not None:
        from layerdex.indexer.models.compatibility import check_fingerprint

        check_fingerprint(encoder.settings, settings)
        return encoder
    return TransformerEncoder.for_index(settings, runtime=runtime, model=model, adapter=adapter)


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
