"""Checks that options or an encoder are those that an index was made with."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from layerdex.arguments import expand_home, to_path
from layerdex.choices import Dtype, StoredPrecision
from layerdex.errors import IndexMismatchError
from layerdex.indexer.models.fingerprint import earlier_fingerprint, fingerprint
from layerdex.indexer.models.model_folder import ModelFolder, find_model, to_folder
from layerdex.indexer.quantization.calibration import find_calibration
from layerdex.layers import LayerSelection, format_layers, resolve_layers
from layerdex.options import EncoderOptions, RuntimeOptions
from layerdex.records import EncoderSettings, Quantization

# They may differ for the same weights; other weights are reported by their fingerprints.
_LOCATIONS = ("model", "revision", "calibration")


def check_options(
    settings: EncoderSettings,
    stored_layers: tuple[int, ...],
    stored_precision: StoredPrecision,
    options: EncoderOptions,
    *,
    layers: LayerSelection | None = None,
    precision: StoredPrecision | str | None = None,
    query_template: str | None = None,
    stored_query_template: str | None = None,
) -> None:
    """Raise `IndexMismatchError` for the first option that differs from the index's.

    Options that are None are not compared. A model or adapter folder may have moved.
    """
    if layers is not None:
        wanted = format_layers(resolve_layers(layers, depth=settings.depth))
        _check("layers", format_layers(stored_layers), wanted)
    if options.calibration is not None:
        find_calibration(settings, options.calibration.path)
        options = replace(options, calibration=None)
    for name, value in _stored_names(settings, options).chosen().items():
        _check(name.replace("_", " "), getattr(settings, name), value)
    _check("precision", stored_precision, precision)
    _check("query template", stored_query_template or settings.template, query_template)


def _stored_names(settings: EncoderSettings, options: EncoderOptions) -> EncoderOptions:
    """Return options that name model, adapter and revision as the index does if they are equal."""
    model, adapter, revision = options.model, options.adapter, options.revision
    if model is not None:
        model = same_model(settings, model)
    if adapter is not None:
        adapter = same_adapter(settings, adapter, model=options.model)
    if revision not in (None, settings.revision):
        # A branch or tag stands for the commit that the index stores.
        revision = find_model(settings.model, revision=revision).revision
    return replace(options, model=model, adapter=adapter, revision=revision)


def same_model(stored: EncoderSettings, model: str) -> str:
    """Return the stored name of the model if ``model`` is a folder with the same content.

    Otherwise return ``model``, resolved if it is a folder.
    """
    folder = to_folder(model)
    if not folder.is_dir():
        return model
    if str(folder.resolve()) == stored.model:
        return stored.model
    adapter = stored.adapter
    if adapter is not None and not Path(adapter).is_dir():
        return stored.model  # unknown here; loading the encoder compares fingerprints
    contents, options = find_model(model).contents, stored.options()
    if adapter is not None:
        contents = contents.with_adapter(Path(adapter))
    # Of an earlier one too: `check_case` then says what has changed.
    possible = (
        fingerprint(contents, options, stored.quantization),
        earlier_fingerprint(contents, options),
    )
    return stored.model if stored.fingerprint in possible else str(folder.resolve())


def same_adapter(stored: EncoderSettings, adapter: str, *, model: str | None) -> str:
    """Return the stored folder of the adapter if ``adapter`` has the same content.

    Otherwise return ``adapter``, resolved. ``model`` is the model's current location, if it has
    moved. Raises `ModelError` for a folder without an adapter.
    """
    if stored.adapter is None:
        return adapter
    folder = expand_home(to_path(adapter, what="an adapter is a folder's path")).resolve()
    if str(folder) == stored.adapter:
        return stored.adapter
    base = find_model(
        stored.model if model is None else model,
        revision=stored.revision if model is None else None,
        adapter=adapter,
    )
    actual = fingerprint(base.contents, stored.options(), stored.quantization)
    return stored.adapter if actual == stored.fingerprint else str(folder)


def choose_runtime(stored: EncoderSettings, runtime: RuntimeOptions) -> RuntimeOptions:
    """Return ``runtime`` with the dtype of an index in int8.

    Raises `IndexMismatchError` for int8 with an exact index, or the reverse.
    """
    if stored.quantization is None:
        if runtime.dtype is Dtype.INT8:
            raise IndexMismatchError(
                "this index was not made in int8, whose vectors cannot be compared with its own: "
                "leave --dtype out, or make a new index"
            )
        return runtime
    if runtime.dtype not in (Dtype.AUTO, Dtype.INT8):
        raise IndexMismatchError(
            f"this index was made in int8, and vectors in {runtime.dtype} cannot be compared with "
            "its own: leave --dtype out, or make a new index"
        )
    return replace(runtime, dtype=Dtype.INT8)


def check_loaded(settings: EncoderSettings, stored: EncoderSettings, folder: ModelFolder) -> None:
    """Raise `IndexMismatchError` unless an encoder loaded from ``folder`` is the index's own."""
    check_case(folder, stored)
    check_fingerprint(settings, stored)
    check_padding(settings, stored)


def check_case(folder: ModelFolder, stored: EncoderSettings) -> None:
    """Raise `IndexMismatchError` for an index made before a model's ``do_lower_case`` was read."""
    if not folder.lowercases:
        return
    if earlier_fingerprint(folder.contents, stored.options()) == stored.fingerprint:
        raise IndexMismatchError(
            f"the do_lower_case of the model {stored.model!r} is read now, and this index was made "
            "before, of texts in their own case: make a new index; or, to go on with this one, set "
            "do_lower_case to false in a copy of the model's folder, and pass it to --model"
        )


def check_fingerprint(settings: EncoderSettings, stored: EncoderSettings) -> None:
    """Raise `IndexMismatchError` unless an encoder with ``settings`` gives the index's vectors."""
    if settings.fingerprint == stored.fingerprint:
        return
    made, was_made = (each.quantization for each in (settings, stored))
    if (made and made.identity) != (was_made and was_made.identity):
        raise IndexMismatchError(
            f"this index was made {_describe_quantization(was_made)}, not "
            f"{_describe_quantization(made)}: the vectors cannot be compared; use the same or make "
            "a new index"
        )
    names = [field.name for field in fields(EncoderOptions)]
    differences = [
        f"{name.replace('_', ' ')} {_quote(getattr(stored, name))}, not "
        f"{_quote(getattr(settings, name))}"
        for name in names
        if name not in _LOCATIONS and getattr(stored, name) != getattr(settings, name)
    ]
    if differences:
        raise IndexMismatchError(
            f"this index was made with {' and '.join(differences)}: the encoder's vectors cannot "
            "be compared with its own; use the same settings or make a new index"
        )
    raise IndexMismatchError(
        f"this index was made with another version of the model {stored.model!r} "
        f"(fingerprint {stored.fingerprint}, the model now has {settings.fingerprint}): "
        "its vectors cannot be compared; use that version or make a new index"
    )


def _describe_quantization(quantization: Quantization | None) -> str:
    if quantization is None:
        return "with an exact encoder"
    method, version, digest = quantization.identity
    return f"in int8 ({method}, NNCF {version}, calibrated by texts of digest {digest[:8]})"


def check_padding(settings: EncoderSettings, stored: EncoderSettings) -> None:
    """Raise `IndexMismatchError` if the index's texts were padded and the model must not be."""
    if stored.pads and not settings.pads:
        raise IndexMismatchError(
            "this index was made with padded batches, and padding changes the vectors of the model "
            f"{stored.model!r}: export the documents and make a new index, which is not padded"
        )


def _check(name: str, stored: object, wanted: object) -> None:
    if wanted is not None and wanted != stored:
        raise IndexMismatchError(
            f"this index was made with {name} {_quote(stored)}, not {_quote(wanted)}: "
            "leave the option out, or make a new index"
        )


def _quote(value: object) -> str:
    return repr("none" if value is None else str(value))
