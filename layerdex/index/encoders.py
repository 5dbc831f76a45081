"""The encoder of an index: loaded when the index is created, and again for its queries.

torch and transformers are imported only when an encoder is loaded whose engine is torch.
"""

from __future__ import annotations

import logging

from layerdex.arguments import check_type, format_value
from layerdex.errors import LayerdexError, OptionError
from layerdex.indexer.text.templates import MASK, PLAIN, TEXT, other_fields
from layerdex.options import EncoderOptions, RuntimeOptions
from layerdex.records import Encoder, EncoderSettings, TemplatedEncoder

logger = logging.getLogger(__name__)


def check_encoder(encoder: object) -> None:
    """Raise `OptionError` for an object that does not follow the `Encoder` protocol."""
    settings = getattr(encoder, "settings", None)
    has_settings = isinstance(settings, EncoderSettings)
    if not (has_settings and callable(getattr(encoder, "encode", None))):
        raise OptionError(
            f"an encoder has settings and encode (see Encoder), not {format_value(encoder)}"
        )


def make_encoder(
    options: EncoderOptions,
    runtime: RuntimeOptions,
    *,
    query_template: str | None = None,
    force_int8: bool = False,
) -> Encoder:
    """Load the encoder of a new index, and log what the index does not follow of the model's files.

    ``force_int8`` takes a model in int8 even if it is too far from float32.
    Raises `ModelError`, `OptionError`, `StorageError` or `MissingPackageError`.
    """
    from layerdex.indexer.encoder import TransformerEncoder
    from layerdex.indexer.quantization.fidelity import check_fidelity

    encoder = TransformerEncoder(options, runtime=runtime)
    if (quantization := encoder.settings.quantization) is not None:
        check_fidelity(quantization, name=encoder.settings.model, force=force_int8)
    for note in encoder.notes(query_template=query_template):
        logger.warning("%s", note)
    for template in dict.fromkeys((encoder.settings.template, query_template or PLAIN)):
        if fields := other_fields(template):
            logger.warning(
                "the template has %s, which stays as it is: only %s and %s are replaced",
                ", ".join(fields),
                TEXT,
                MASK,
            )
    return encoder


def load_encoder(
    settings: EncoderSettings,
    *,
    encoder: Encoder | None,
    model: str | None,
    adapter: str | None,
    calibration: str | None,
    runtime: RuntimeOptions,
) -> Encoder:
    """Return ``encoder``, else load the encoder of an index with these stored settings.

    ``model``, ``adapter`` and ``calibration`` are where they lie now, if they have moved. Raises
    `IndexMismatchError` for an encoder whose vectors cannot be compared with the index's, and as
    `make_encoder` does.
    """
    if encoder is not None:
        from layerdex.indexer.models.compatibility import check_fingerprint

        check_fingerprint(encoder.settings, settings)
        return encoder
    from layerdex.indexer.encoder import TransformerEncoder

    return TransformerEncoder.for_index(
        settings, runtime=runtime, model=model, adapter=adapter, calibration=calibration
    )


def note_changed_adapter(
    settings: EncoderSettings, *, model: str | None, adapter: str | None
) -> None:
    """Log that the adapter of an index, or the model in its folder, is not what it was.

    Questions without texts need neither, so that this is no error. Not for a model of the hub,
    which may have to be fetched, or in a folder that is not there.
    """
    adapter = settings.adapter if adapter is None else adapter
    if adapter is None:
        return
    from layerdex.indexer.models.fingerprint import earlier_fingerprint, fingerprint
    from layerdex.indexer.models.model_folder import MINILM, find_model, to_folder

    name = settings.model if model is None else model
    folders = [adapter] if name == MINILM else [adapter, name]
    if not all(to_folder(folder).is_dir() for folder in folders):
        return
    try:
        contents = find_model(name, adapter=adapter).contents
    except LayerdexError as error:
        logger.warning("texts cannot be encoded for this index: %s", error)
        return
    options = settings.options()
    known = (
        fingerprint(contents, options, settings.quantization),
        earlier_fingerprint(contents, options),
    )
    if settings.fingerprint not in known:
        logger.warning(
            "the adapter %r, or its model, is another one than this index was made with: texts "
            "cannot be encoded for this index",
            adapter,
        )


def with_template(encoder: Encoder, template: str) -> Encoder:
    """Return an encoder of the same model with this template.

    Raises `OptionError` for a bad template, or for a custom encoder without `with_template`.
    """
    check_type(template, str, what="a template is a string")
    if template == encoder.settings.template:
        return encoder
    if not isinstance(encoder, TemplatedEncoder):
        raise OptionError("this encoder has no with_template (see TemplatedEncoder)")
    return encoder.with_template(template)
