"""`Index`: making and opening one."""

from __future__ import annotations

from pathlib import Path

from layerdex.arguments import to_choice, to_path
from layerdex.choices import Dtype, EngineName, LongText, Pooling, StoredPrecision
from layerdex.index.encoders import check_encoder, load_encoder, make_encoder, with_template
from layerdex.index.tuning import Tunings
from layerdex.layers import LayerSelection, resolve_layers
from layerdex.options import EncoderOptions, RuntimeOptions
from layerdex.records import Encoder
from layerdex.storage.store import Store

_WHAT = "an index is a directory's path"


class Index(Tunings):
    """An index directory: add documents, then ask at any of its layers.

    Every question is answered from the newest commit. ``layer`` left out means the layer that
    `save_best` saved, else the deepest; a negative layer counts from the
    deepest. ``where`` takes conditions such as ``"label=ham"`` (see `search.filters`).
    """

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        model: str = "minilm",
        revision: str | None = None,
        adapter: str | None = None,
        layers: LayerSelection = "all",
        pooling: Pooling | str | None = None,
        template: str = "{text}",
        query_template: str | None = None,
        max_length: int | None = None,
        precision: StoredPrecision | str = StoredPrecision.FLOAT16,
        long: LongText | str = LongText.TRUNCATE,
        device: str = "auto",
        dtype: str = "auto",
        engine: str = "auto",
        encoder: Encoder | None = None,
    ) -> Index:
        """Create an empty index in a new or empty directory.

        ``model`` is ``minilm``, a local folder or a hub id; what is None is the model's own
        choice (of ``max_length`` what its sentence-transformers file says, else at most 512).
        ``long`` says whether a text beyond ``max_length`` tokens is cut, or averaged over
        chunks. ``adapter`` is a folder that `tune` wrote for the model. ``query_template`` is
        what searches put around their text, if not ``template``; each can choose another. An
        ``encoder`` of your own replaces all but ``layers``, ``query_template`` and ``precision``,
        the one that vectors are stored in (``dtype`` is what the encoder computes in). Raises
        `IndexExistsError`, `ModelError`, `OptionError` or `MissingPackageError`.
        """
        path = to_path(path, what=_WHAT)
        precision = to_choice(StoredPrecision, precision)
        if encoder is None:
            options = EncoderOptions(
                model=model,
                revision=revision,
                adapter=adapter,
                pooling=None if pooling is None else to_choice(Pooling, pooling),
                template=template,
                max_length=max_length,
                long=to_choice(LongText, long),
            )
            encoder = make_encoder(options, _runtime(engine, device, dtype))
        else:
            check_encoder(encoder)
        settings = encoder.settings
        resolved = resolve_layers(layers, depth=settings.depth)
        if query_template is not None:
            with_template(encoder, query_template)  # shows before anything is made if it is bad
        store = Store.create(
            path, settings, resolved, precision=precision, query_template=query_template
        )
        return cls(store, lambda: encoder)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        model: str | None = None,
        adapter: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        engine: str = "auto",
        encoder: Encoder | None = None,
        damaged: bool = False,
    ) -> Index:
        """Open an index; its encoder is loaded when first needed.

        ``model`` and ``adapter`` are the folders where these lie now, if they have moved.
        ``damaged`` opens it even if segment files are missing or cut, to be repaired or to save
        its texts. Raises `IndexNotFoundError`, `SchemaError`, `DamagedIndexError` or
        `StorageError`.
        """
        store = Store(to_path(path, what=_WHAT))
        if encoder is not None:
            check_encoder(encoder)
        if not damaged:
            store.check_whole()

        def load() -> Encoder:
            return load_encoder(
                store.settings,
                encoder=encoder,
                model=model,
                adapter=adapter,
                runtime=_runtime(engine, device, dtype),
            )

        return cls(store, load)


def _runtime(engine: str, device: str, dtype: str) -> RuntimeOptions:
    return RuntimeOptions(to_choice(EngineName, engine), device, to_choice(Dtype, dtype))
