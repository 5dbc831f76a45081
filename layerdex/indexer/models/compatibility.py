"""Whether options or an encoder agree with what an index was made with."""

from __future__ import annotations

from pathlib import Path

from layerdex.arguments import to_path
from layerdex.choices import LongText, Pooling, StoredPrecision
from layerdex.errors import IndexMismatchError
from layerdex.indexer.models.fingerprint import fingerprint
from layerdex.indexer.models.model_folder import find_model, to_folder
from layerdex.layers import LayerSelection, describe_layers, resolve_layers
from layerdex.records import EncoderSettings


def check_options(
    settings: EncoderSettings,
    stored_layers: tuple[int, ...],
    stored_precision: StoredPrecision,
    *,
    model: str | None = None,
    adapter: str | None = None,
    revision: str | None = None,
    layers: LayerSelection | None = None,
    pooling: Pooling | None = None,
    template: str | None = None,
    max_length: int | None = None,
    precision: StoredPrecision | str | None = None,
    long: LongText | None = None,
    stored_query_template: str | None = None,
    query_template: str | None = None,
) -> None:
    """Raise `IndexMismatchError` for the first option given (not None) that differs."""
    if layers is not None:
        wanted = describe_layers(resolve_layers(layers, depth=settings.depth))
        _check("layers", describe_layers(stored_layers), wanted)
    if model is not None:
        _check("model", settings.model, same_model(settings, model))
    if adapter is not None:
        _check("adapter", settings.adapter or "none", same_adapter(settings, adapter, model=model))
    if revision is not None and revision != settings.revision:
        # A branch or tag stands for the commit that the index remembers.
        found = find_model(settings.model, revision=revision).revision
        _check("revision", settings.revision, found)
    _check("pooling", settings.pooling, pooling)
    _check("template", settings.template, template)
    _check("max length", settings.max_length, max_length)
    _check("precision", stored_precision, precision)
    _check("long", settings.long, long)
    _check("query template", stored_query_template or settings.template, query_template)


def same_model(recorded: EncoderSettings, model: str) -> str:
    """Return the recorded name of the model where ``model`` is a folder that holds the same.

    So a model folder may move; anything else is returned as it is, a folder resolved.
    """
    folder = to_folder(model)
    if not folder.is_dir():
        return model
    if str(folder.resolve()) == recorded.model:
        return recorded.model
    adapter = recorded.adapter
    if adapter is not None and not Path(adapter).is_dir():
        return recorded.model  # cannot be told here; loading it compares fingerprints
    base = find_model(model).path
    found = _fingerprint(recorded, base, None if adapter is None else Path(adapter))
    return recorded.model if found == recorded.fingerprint else str(folder.resolve())


def same_adapter(recorded: EncoderSettings, adapter: str, *, model: str | None) -> str:
    """Return the recorded folder of the adapter where ``adapter`` holds the same.

    So it may move; any other is returned as it is, a folder resolved. ``model`` is where the model
    lies now, if that has moved. Raises `ModelError` for a folder that holds no adapter.
    """
    if recorded.adapter is None:
        return adapter
    folder = to_path(adapter, what="an adapter is a folder's path").expanduser().resolve()
    if str(folder) == recorded.adapter:
        return recorded.adapter
    base = find_model(
        recorded.model if model is None else model,
        revision=recorded.revision if model is None else None,
        adapter=adapter,
    )
    found = _fingerprint(recorded, base.path, base.adapter)
    return recorded.adapter if found == recorded.fingerprint else str(folder)


def _fingerprint(recorded: EncoderSettings, model: Path, adapter: Path | None) -> str:
    """Return what the recorded settings' fingerprint would be with these weights."""
    return fingerprint(
        model,
        pooling=recorded.pooling,
        template=recorded.template,
        max_length=recorded.max_length,
        long=recorded.long,
        adapter=adapter,
    )


def check_fingerprint(found: EncoderSettings, recorded: EncoderSettings) -> None:
    """Raise `IndexMismatchError` where an encoder is not the one an index was made with."""
    if found.fingerprint == recorded.fingerprint:
        return
    differences = [
        f"{name} {str(one)!r}, not {str(other)!r}"
        for name, one, other in (
            ("pooling", recorded.pooling, found.pooling),
            ("template", recorded.template, found.template),
            ("max length", recorded.max_length, found.max_length),
            ("long", recorded.long, found.long),
            ("adapter", recorded.adapter, found.adapter),
        )
        if one != other
    ]
    if differences:
        raise IndexMismatchError(
            f"this index was made with {' and '.join(differences)}: the encoder's vectors cannot "
            "be compared with its own; use the same settings or make a new index"
        )
    raise IndexMismatchError(
        f"this index was made with another version of the model {recorded.model!r} "
        f"(fingerprint {recorded.fingerprint}, the model now has {found.fingerprint}): "
        "its vectors cannot be compared; use that version or make a new index"
    )


def _check(name: str, stored: object, given: object) -> None:
    if given is not None and given != stored:
        raise IndexMismatchError(
            f"this index was made with {name} {str(stored)!r}, not {str(given)!r}: "
            "leave the option out, or make a new index"
        )
