"""`Index`: an index directory, made or opened, filled, asked and looked after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, BinaryIO, Never, Unpack, overload

from layerdex.arguments import check_callbacks, check_type, to_choice, to_list, to_path
from layerdex.choices import (
    Change,
    Dtype,
    ExportFormat,
    Format,
    Keep,
    MetadataLayout,
    OnBlank,
    OnError,
    StoredPrecision,
    Weights,
)
from layerdex.errors import OptionError
from layerdex.index import (
    documents,
    label_changes,
    source_options,
    stored_transforms,
    vectors,
)
from layerdex.index.encoders import (
    check_encoder,
    load_encoder,
    make_encoder,
    note_changed_adapter,
    with_template,
)
from layerdex.index.label_changes import LabelChanges, Labels
from layerdex.index.open_index import OpenIndex, as_list
from layerdex.index.search_device import SearchDevice
from layerdex.index.target_options import TargetArguments, TargetOptions
from layerdex.index.target_signature import takes_target
from layerdex.index.tasks import LABEL, Task
from layerdex.layers import LayerSelection, name_layers, resolve_layers
from layerdex.options import EncoderOptions, RuntimeOptions
from layerdex.records import (
    Document,
    Documents,
    Encoder,
    EncoderSettings,
    OnProgress,
    Rejected,
    Source,
    Truncated,
    Unknown,
    Vectors,
)
from layerdex.removals import DEFAULT_SHARE, MaxRemoved, RemovalLimit
from layerdex.search.evaluation.vote_scores import N_RESAMPLES
from layerdex.search.filters import Expressions, parse_where
from layerdex.search.results import Deduplication, Predictions, SearchResults
from layerdex.storage.maintenance.info import IndexInfo, read_info
from layerdex.storage.store import Store

if TYPE_CHECKING:
    from layerdex.index.accelerating import Acceleration
    from layerdex.index.document_reader import DocumentReader
    from layerdex.index.training import Tuning
    from layerdex.index.view import View
    from layerdex.indexer.pipeline.pipeline import BuildReport
    from layerdex.indexer.readers.dialect import Dialect
    from layerdex.indexer.readers.fields import Fields
    from layerdex.indexer.training.plan import Plan
    from layerdex.search.evaluation.evaluation import Evaluation
    from layerdex.search.labels.probe import Probe
    from layerdex.search.transforms.fit import TransformFit
    from layerdex.storage.maintenance.compaction import Compaction
    from layerdex.storage.maintenance.verify import Problem

_WHAT = "an index is a directory's path"
_FIELD_OPTIONS = ("text_field", "id_field", "label_field", "metadata_field", "metadata_fields")


class Index:
    """An index directory: add documents, then ask at any of its layers.

    `at` binds a target (layers, fusion, transform, conditions) and returns a `View`, which answers
    the questions. `search`, `search_like`, `classify`, `deduplicate` and `evaluate` are short for
    ``at(...)`` and that method: their keyword arguments ``layer``, ``fuse``, ``transform`` and
    ``where`` are those of `at`. Every question is answered from the newest commit.
    """

    def __init__(self, opened: OpenIndex) -> None:
        self._open = opened

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        model: str | EncoderOptions | Encoder = "minilm",
        layers: LayerSelection = "all",
        precision: StoredPrecision | str = StoredPrecision.FLOAT16,
        query_template: str | None = None,
        runtime: RuntimeOptions | None = None,
        force_int8: bool = False,
    ) -> Index:
        """Create an empty index in a new or empty directory.

        ``model`` is ``minilm``, a local folder, a hub id, `EncoderOptions`, or an encoder of your
        own. ``layers`` are the layers to keep. ``precision`` is how vectors are stored.
        ``query_template`` is put around queries in place of the documents' template. ``runtime``
        says where the encoder runs, and in which dtype. In int8, ``settings.quantization`` says how
        near to float32 its vectors are; too far is a `ModelError`, unless ``force_int8``. An
        encoder of your own is taken as it is, and neither of the two may be given. Raises
        `IndexExistsError`, `ModelError`, `OptionError`, also for a directory inside another index,
        or `MissingPackageError`.
        """
        path = to_path(path, what=_WHAT)
        precision = to_choice(StoredPrecision, precision)
        check_type(runtime, (RuntimeOptions, NoneType), what="runtime is `RuntimeOptions`")
        check_type(query_template, (str, NoneType), what="a template is a string")
        if isinstance(model, str | EncoderOptions):
            options = EncoderOptions(model) if isinstance(model, str) else model
            runtime = RuntimeOptions() if runtime is None else runtime
            if force_int8 and runtime.dtype is not Dtype.INT8:
                raise OptionError("only a model in int8 can be forced: add --dtype int8")
            encoder = make_encoder(
                options, runtime, query_template=query_template, force_int8=force_int8
            )
        elif runtime is not None or force_int8:
            name = "force_int8" if runtime is None else "runtime"
            raise OptionError(f"{name} is for a model that Layerdex loads, not for your encoder")
        else:
            check_encoder(model)
            encoder = model
        settings = encoder.settings
        resolved = resolve_layers(layers, depth=settings.depth)
        if query_template is not None:
            with_template(encoder, query_template)  # a bad one is found before anything is made
        store = Store.create(
            path, settings, resolved, precision=precision, query_template=query_template
        )
        return cls(OpenIndex(store, lambda: encoder))

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        model: str | None = None,
        adapter: str | None = None,
        calibration: str | None = None,
        encoder: Encoder | None = None,
        runtime: RuntimeOptions | None = None,
        damaged: bool = False,
    ) -> Index:
        """Open an index; its encoder is loaded when first needed.

        ``model`` and ``adapter`` are the folders of the index's model and adapter, and
        ``calibration`` the file of the texts that its model was quantised to int8 by, if they have
        moved. ``encoder`` is an
        encoder of your own; that it is another one than the index's is found when it is first
        needed. ``damaged`` opens the index even if segment files are missing or cut, to repair it
        or to save its texts. Raises `IndexNotFoundError`, `SchemaError`, `DamagedIndexError`,
        `LockedIndexError` or `StorageError`.
        """
        check_type(runtime, (RuntimeOptions, NoneType), what="runtime is `RuntimeOptions`")
        if encoder is not None:
            check_encoder(encoder)
            if any(given is not None for given in (model, adapter, calibration, runtime)):
                raise OptionError(
                    "give an encoder, or model, adapter, calibration and runtime to load one"
                )
        store = Store(to_path(path, what=_WHAT))
        if not damaged:
            store.check_whole()
        if runtime is not None and runtime.dtype is not Dtype.AUTO:
            from layerdex.indexer.models.compatibility import choose_runtime

            choose_runtime(store.settings, runtime)  # also where nothing will be encoded
        if encoder is None:
            note_changed_adapter(store.settings, model=model, adapter=adapter)
        load = partial(
            load_encoder,
            store.settings,
            encoder=encoder,
            model=model,
            adapter=adapter,
            calibration=calibration,
            runtime=RuntimeOptions() if runtime is None else runtime,
        )
        device = "auto" if runtime is None else runtime.device
        return cls(OpenIndex(store, load, SearchDevice(device)))

    def __repr__(self) -> str:
        layers = name_layers(self.layers)
        return f"<Index {str(self.path)!r}, {layers} of {self.settings.model}>"

    def _repr_html_(self) -> str:
        """Return `info` as a table, which notebooks show."""
        return self.info()._repr_html_()

    if not TYPE_CHECKING:  # else every name would be an attribute to type checkers

        def __getattr__(self, name: str) -> object:
            from layerdex.index.view import View

            if not name.startswith("_") and hasattr(View, name):
                raise AttributeError(
                    f"'Index' object has no attribute {name!r}: use index.at().{name}()",
                    name=name,
                    obj=self,
                )
            return object.__getattribute__(self, name)  # raises what the first attempt did

    def __len__(self) -> int:
        return self._open.store.query(lambda snapshot: snapshot.n_documents)

    @property
    def path(self) -> Path:
        """The directory, absolute; where the index was opened by a link, what that led to."""
        return self._open.store.path

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that this index holds, ascending."""
        return self._open.store.layers

    @property
    def settings(self) -> EncoderSettings:
        """The settings of the encoder that this index was made with."""
        return self._open.store.settings

    @property
    def encoder(self) -> Encoder:
        """The encoder that this index was made with, loaded on first use."""
        return self._open.encoder

    @takes_target
    def at(self, **target: Unpack[TargetArguments]) -> View:
        """Return a view of the index at a target.

        ``layer`` is a layer or several, such as ``4``, ``"0,3-6"``, ``"all"`` or, with weights for
        fusion, ``"4:0.7,6:0.3"``; a negative one counts from the deepest. None is the default of a
        question: the layer that `save_best` saved, else the deepest, or all where layers are
        compared. ``fuse`` makes several layers one (``mean``, ``concat``, or ``rrf`` for search).
        ``transform`` is ``none``, ``center`` or ``whiten`` (see `fit_transforms`). ``where`` takes
        an expression such as ``"label=ham or year>2020"``, several that must all hold, or a
        `Filter`, which declares forms of dates. The default layer, the transform and the conditions
        are resolved when a question is answered.
        Raises `LayerError`, `OptionError` or `FilterError`.
        """
        from layerdex.index.view import View  # imports all kinds of questions

        options = TargetOptions.parse(**target)
        options.check(self._open)
        return View(self._open, options)

    @takes_target
    def search(
        self,
        queries: str | Iterable[str],
        *,
        k: int = 10,
        min_similarity: float | str | None = None,
        query_template: str | None = None,
        exact: bool = False,
        on_progress: OnProgress | None = None,
        **target: Unpack[TargetArguments],
    ) -> SearchResults:
        """Return the k nearest documents of each text; see `View.search` and `at`."""
        view = self.at(**target)
        return view.search(
            queries,
            k=k,
            min_similarity=min_similarity,
            query_template=query_template,
            exact=exact,
            on_progress=on_progress,
        )

    @takes_target
    def search_like(
        self,
        ids: str | Iterable[str],
        *,
        k: int = 10,
        min_similarity: float | str | None = None,
        exact: bool = False,
        **target: Unpack[TargetArguments],
    ) -> SearchResults:
        """Return the k nearest documents of stored documents; see `View.search_like` and `at`."""
        view = self.at(**target)
        return view.search_like(ids, k=k, min_similarity=min_similarity, exact=exact)

    @takes_target
    def classify(
        self,
        texts: str | Iterable[str],
        *,
        k: int = 10,
        weights: Weights | str = Weights.DISTANCE,
        min_confidence: float = 0.0,
        on_progress: OnProgress | None = None,
        **target: Unpack[TargetArguments],
    ) -> Predictions:
        """Label texts by the vote of their neighbours; see `View.classify` and `at`."""
        return self.at(**target).classify(
            texts,
            k=k,
            weights=weights,
            min_confidence=min_confidence,
            on_progress=on_progress,
        )

    @takes_target
    def deduplicate(
        self,
        *,
        threshold: float = 0.9,
        keep: Keep | str = Keep.FIRST,
        on_progress: OnProgress | None = None,
        on_result: Callable[[Deduplication, DocumentReader], None] | None = None,
        **target: Unpack[TargetArguments],
    ) -> Deduplication:
        """Find exact and near duplicates; see `View.deduplicate` and `at`."""
        return self.at(**target).deduplicate(
            threshold=threshold, keep=keep, on_progress=on_progress, on_result=on_result
        )

    @takes_target
    def evaluate(
        self,
        task: Task | None = None,
        *,
        n_resamples: int = N_RESAMPLES,
        on_progress: OnProgress | None = None,
        **target: Unpack[TargetArguments],
    ) -> Evaluation:
        """Measure each layer at a task; see `View.evaluate` and `at`."""
        return self.at(**target).evaluate(task, n_resamples=n_resamples, on_progress=on_progress)

    def add(
        self,
        *sources: Source,
        text: str | None = None,
        id: str | None = None,
        label: str | None = None,
        metadata: Iterable[str] | None = None,
        date_formats: Mapping[str, str] | None = None,
        mix_ids: bool = False,
        fields: Fields | None = None,
        format: Format | str = Format.AUTO,
        dialect: Dialect | None = None,
        on_error: OnError | str = OnError.ABORT,
        on_blank: OnBlank | str | None = None,
        on_reject: Callable[[Rejected], None] | None = None,
        on_change: Callable[[Change, str], None] | None = None,
        on_progress: OnProgress | None = None,
        on_bytes: Callable[[int, int], None] | None = None,
        n_total: int | None = None,
        sync: bool = False,
        max_removed: MaxRemoved = DEFAULT_SHARE,
        dry_run: bool = False,
        auto_compact: bool = True,
        lock_timeout_s: float = 10.0,
        **misnamed: Never,
    ) -> BuildReport:
        """Add documents from paths, mappings or data frames; unchanged documents are skipped.

        ``text``, ``id`` and ``label`` are the names of these fields in the sources, and
        ``metadata`` those of the other fields to keep. A named index of a data frame is a field.
        The names of an index's first run are the defaults of later ones (see `declare`); without
        any they are ``text``, ``id`` and ``label``, and all other fields are kept.
        ``date_formats`` are forms of dates by field, such as ``{"Datum": "%d.%m.%Y"}``, and are
        stored. ``format`` is that of the sources, and ``dialect``, a `layerdex.Dialect`, what a
        file does not say of itself; by default both are recognised. ``fields``, a
        `layerdex.Fields`, names all fields at once, and is read as it is.

        A document without an id gets one from its text. If no id of the first documents comes about
        as those of the index do, it is an `IndexMismatchError`, unless ``mix_ids`` is True.

        A row whose id already exists updates that document. With ``sync``, documents that are in
        none of the sources are removed in one commit, once all sources have been read to the end; a
        rejected or blank row keeps its document, and nothing is removed where such a row may belong
        to any document (`RowError`), where the sources have no document at all (`SourceError`), or
        where more than ``max_removed`` would be (`RemovalError`): a number of documents, a share of
        those that were there before (a float; 1.0 for all), or a function that is called with both
        numbers where it is more than a tenth, and returns whether they may go. With ``dry_run``
        nothing is encoded or changed, and the report says what would be.
        ``on_change`` is called with each document that is new, updated or removed. After a run,
        small segments are merged, unless ``auto_compact`` is False.

        ``on_progress`` gets the rows done and ``n_total``: at a commit those committed, and in
        between, a few times a second, also those of the next window that are encoded. Where all
        sources are files, ``on_bytes`` gets just before it the bytes of these rows and of all.
        Callbacks, and iterators that are sources, run in the calling thread; a search for a text in
        one of them waits for the encoder. Windows of standard input, pipes and iterators are
        committed before the next row is asked for. Raises `RowError` at a bad row unless
        ``on_error`` is skip, `SourceError` for a source that cannot be read.

        A row of a table or data frame whose text is missing or blank is skipped and counted apart,
        and elsewhere it is a bad row; ``on_blank`` (skip or error) says so for all sources.
        """
        for name in misnamed:
            raise TypeError(_unexpected(name))
        return documents.add(
            self._open,
            sources,
            text=text,
            id=id,
            label=label,
            metadata=metadata,
            date_formats=date_formats,
            mix_ids=mix_ids,
            fields=fields,
            format=format,
            dialect=dialect,
            on_error=to_choice(OnError, on_error),
            on_blank=None if on_blank is None else to_choice(OnBlank, on_blank),
            on_reject=on_reject,
            on_change=on_change,
            on_progress=on_progress,
            on_bytes=on_bytes,
            n_total=n_total,
            sync=sync,
            limit=RemovalLimit.parse(max_removed),
            dry_run=dry_run,
            auto_compact=auto_compact,
            lock_timeout_s=lock_timeout_s,
        )

    def declare(
        self,
        *,
        text: str | None = None,
        id: str | None = None,
        label: str | None = None,
        metadata: Iterable[str] | None = None,
        date_formats: Mapping[str, str] | None = None,
        lock_timeout_s: float = 10.0,
    ) -> None:
        """Store names of fields and forms of dates as defaults of later runs; see `add`.

        What is None stays as it is, and so do the forms of other fields. Raises `OptionError` for a
        form by which no date can be read, `LockedIndexError` or `StorageError`.
        """
        source_options.declare(
            self._open.store,
            text=text,
            id=id,
            label=label,
            metadata=metadata,
            date_formats=date_formats,
            lock_timeout_s=lock_timeout_s,
        )

    def get(self, *ids: str) -> Documents:
        """Return documents by id, in the order asked; raises `DocumentNotFoundError`."""
        return Documents(documents.get(self._open, ids))

    def documents(self, *, where: Expressions = None) -> Iterator[Document]:
        """Yield the documents in input order, all from one commit."""
        return documents.iterate(self._open, parse_where(where))

    @overload
    def vectors(
        self,
        layer: LayerSelection | None = None,
        ids: None = None,
        *,
        where: Expressions = None,
    ) -> tuple[list[str], Vectors]: ...
    @overload
    def vectors(
        self, layer: LayerSelection | None = None, ids: str | Iterable[str] = ...
    ) -> Vectors: ...
    def vectors(
        self,
        layer: LayerSelection | None = None,
        ids: str | Iterable[str] | None = None,
        *,
        where: Expressions = None,
    ) -> Vectors | tuple[list[str], Vectors]:
        """Return stored vectors at a layer as a NumPy array, (n, width) float32 of unit length.

        With ``ids``, row i is of the i-th of them. Without, the ids come first: ``ids, vectors``
        of all documents that meet ``where``, in input order and of one commit. The product of two
        vectors is their similarity. ``layer`` None is the saved best layer, else the deepest.
        Raises `DocumentNotFoundError`, or `LayerError` for more than one layer.
        """
        if ids is None:
            return vectors.all_vectors(self._open, layer, parse_where(where))
        if where is not None:
            raise OptionError("give ids, or conditions with where, not both")
        return vectors.vectors_of(self._open, layer, as_list(ids))

    def export(
        self,
        target: str | Path | BinaryIO,
        *,
        format: ExportFormat | str = ExportFormat.AUTO,
        where: Expressions = None,
        layers: LayerSelection | None = None,
        metadata: MetadataLayout | str | None = None,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Write the documents of one commit in input order, and return how many.

        `add` makes the same documents of the file. ``format`` auto goes by the name of ``target``:
        parquet for .parquet and .pq, csv and npy for .csv and .npy, jsonl for .jsonl, .ndjson and
        no extension; any other is an `OptionError`. ``metadata`` is ``object``, or ``columns`` for
        a column for each field, as csv always has; there all values become text, and an empty
        text is none. A path gets the whole file or none.

        npy holds only vectors, as `vectors` returns them: (n, width) of the default layer or one
        of ``layers``, (n, n_layers, width) of several. The ids of its rows are beside it, in
        ``x.ids.json`` for ``x.npy``.

        In the other formats, with ``layers`` each document has its
        stored vectors, in fields ``vector_N``: within 5e-4 of unit length, and unit ones of an int8
        index; `add` leaves them out. Memory is bounded by 900 documents, or a parquet row group of
        32 MB. Raises `StorageError` where the file cannot be written and `DamagedIndexError` for
        damage on the way.
        """
        return documents.export(
            self._open,
            target,
            format=to_choice(ExportFormat, format),
            where=parse_where(where),
            layers=layers,
            metadata=None if metadata is None else to_choice(MetadataLayout, metadata),
            on_progress=on_progress,
        )

    def delete(
        self,
        *ids: str,
        where: Expressions = None,
        max_removed: MaxRemoved | None = None,
        missing_ok: bool = False,
        purge: bool = False,
        dry_run: bool = False,
        lock_timeout_s: float = 10.0,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Delete documents by id or by condition, in one commit, and return how many.

        Raises `DocumentNotFoundError` for an id that is missing, unless ``missing_ok``, and
        `RemovalError` for more than ``max_removed`` (see `add`): by default a tenth of all with
        ``where``, and any number of ids. Nothing is deleted then, nor with ``dry_run``.

        What was deleted, and what updates replaced, stays in the files until `compact`. With
        ``purge`` all of it is gone from every byte of the directory when this returns, also what
        was deleted before; neither ids nor ``where`` need be given then. For that, questions that
        others are asking must end: after ``lock_timeout_s`` a `StorageError` says that they have
        not; the documents are deleted then, and another purge can follow. What a head or the
        transforms may still hold of purged texts is logged as a warning.
        """
        conditions = parse_where(where)
        if max_removed is None:
            limit = RemovalLimit() if conditions else None
        else:
            limit = RemovalLimit.parse(max_removed)
        return documents.delete(
            self._open,
            ids,
            where=conditions,
            limit=limit,
            missing_ok=missing_ok,
            purge=purge,
            dry_run=dry_run,
            lock_timeout_s=lock_timeout_s,
            on_progress=on_progress,
        )

    def set_labels(
        self,
        labels: Labels,
        *,
        expected: Labels | None = None,
        missing_ok: bool = False,
        dry_run: bool = False,
        lock_timeout_s: float = 10.0,
    ) -> LabelChanges:
        """Give documents other labels by id, in one commit; None removes a label.

        ``labels`` are a mapping, or a pandas series with the ids as its index. Texts, vectors and
        metadata stay. ``expected`` has labels that documents should have had before: one that has
        another label keeps that. With ``dry_run`` nothing is changed. Raises
        `DocumentNotFoundError` for an id that no document has, unless ``missing_ok``, `OptionError`
        for a label that no document can have, also NaN and pandas.NA, `LockedIndexError` or
        `StorageError`.
        """
        return label_changes.set_labels(
            self._open,
            labels,
            expected=expected,
            missing_ok=missing_ok,
            dry_run=dry_run,
            lock_timeout_s=lock_timeout_s,
        )

    def truncated(self) -> list[Truncated]:
        """Return the documents whose text was cut, in input order."""
        return self._open.store.query(documents.read_truncated)

    def unknown(self) -> list[Unknown]:
        """Return the documents with tokens that the tokenizer does not know, in input order.

        Those encoded by a version that did not count unknown tokens are left out.
        """
        return self._open.store.query(documents.read_unknown)

    def save_best(self, evaluation: Evaluation, *, lock_timeout_s: float = 10.0) -> None:
        """Make the best layer of an evaluation the default of later questions.

        Raises `OptionError` for an evaluation of transformed vectors: questions take plain ones.
        """
        from layerdex.index.best_layer import save

        save(self._open, evaluation, lock_timeout_s=lock_timeout_s)

    def fit_transforms(
        self,
        *,
        shrinkage: float | None = None,
        lock_timeout_s: float = 10.0,
        on_progress: OnProgress | None = None,
    ) -> TransformFit:
        """Fit centring and whitening at each layer on all documents, and store them.

        They replace stored ones, and do not change as documents do. ``shrinkage``, from 0.001 to
        1, is for all layers; None chooses it (see `search.transforms.fit`). Raises `OptionError`
        for documents that are alike at all layers, `LockedIndexError` or `StorageError`.
        """
        return stored_transforms.fit_transforms(
            self._open.store,
            shrinkage=shrinkage,
            lock_timeout_s=lock_timeout_s,
            on_progress=on_progress,
        )

    def remove_transforms(self, *, lock_timeout_s: float = 10.0) -> None:
        """Remove the stored transforms, if there are any."""
        stored_transforms.remove_transforms(self._open.store, lock_timeout_s=lock_timeout_s)

    def accelerate(
        self,
        layers: LayerSelection = "all",
        *,
        recall: float = 0.99,
        queries: str | Iterable[str] | None = None,
        lock_timeout_s: float = 10.0,
        on_progress: OnProgress | None = None,
    ) -> list[Acceleration]:
        """Build an approximate index for each of some layers, and store it in place of any before.

        From then on `search` and `search_like` use it for plain vectors at these layers, unless
        ``exact`` is True; other questions stay exact. How much it does is the least for which the
        lower 95 % bound of recall@10 reaches ``recall``, from 0.5 to 0.999. That is measured with
        stored vectors, and apart from them with ``queries``, if given: the lower of both bounds
        counts, and few queries cannot show a high recall. Of more than 10,000, a random sample of
        10,000 is taken, the same each time. Documents added later are compared exactly. Where they,
        or those removed, exceed a sixth, it is stale, and answers are exact until it is built
        again. Raises `OptionError` for fewer than 20,000 documents, `LockedIndexError` or
        `StorageError`.
        """
        from layerdex.index.accelerating import accelerate

        return accelerate(
            self._open,
            layers=layers,
            recall=recall,
            queries=queries,
            lock_timeout_s=lock_timeout_s,
            on_progress=on_progress,
        )

    def remove_approximates(
        self, layers: LayerSelection = "all", *, lock_timeout_s: float = 10.0
    ) -> bool:
        """Remove the approximate indexes of some layers, so that answers are exact.

        Returns whether there were any. Raises `LockedIndexError`, `StorageError`, or, where only
        some layers are named, `DamagedIndexError`.
        """
        from layerdex.index.accelerating import remove_approximates

        return remove_approximates(self._open, layers, lock_timeout_s=lock_timeout_s)

    def save_head(self, probe: Probe, *, lock_timeout_s: float = 10.0) -> None:
        """Store a probe's head in place of any before; it does not change as documents are added.

        Raises `OptionError` for a probe of an index with other layers or vectors of another width,
        `IndexMismatchError` for one of another model, `LockedIndexError` or `StorageError`.
        """
        from layerdex.index.heads import save_head

        save_head(self._open, probe, lock_timeout_s=lock_timeout_s)

    def classify_with_head(
        self, texts: str | Iterable[str], *, min_confidence: float = 0.0
    ) -> Predictions:
        """Label texts by the stored head; the confidence is its calibrated probability.

        A label is None below ``min_confidence``. Raises `OptionError` where no head is stored,
        `IndexMismatchError` for one that does not fit the index, `DamagedIndexError`.
        """
        from layerdex.index.heads import classify_with_head

        predictions = classify_with_head(self._open, texts, min_confidence=min_confidence)
        return Predictions(predictions, texts=texts)

    def tune(
        self,
        adapter: str | Path,
        *,
        layer: LayerSelection | None = None,
        where: Expressions = None,
        by: str = LABEL,
        min_per_label: int = 2,
        plan: Plan | None = None,
        folds: int = 10,
        test: Source | None = None,
        fields: Fields | None = None,
        format: Format | str = Format.AUTO,
        dialect: Dialect | None = None,
        runtime: RuntimeOptions | None = None,
        on_progress: OnProgress | None = None,
    ) -> Tuning:
        """Train a LoRA adapter on the encoder up to a layer, and write it to a new folder.

        The index does not change: make another one with ``EncoderOptions(adapter=...)``. One of
        ``folds`` folds of the labelled documents is held out of training and chooses the epoch; a
        document with a text of the ``test`` set is not trained on. Raises `OptionError` where the
        folder exists or the index has an adapter already, `NoLabelsError`, `ModelError` or
        `MissingPackageError` (the extra ``tune``).
        """
        from layerdex.index.training import tune

        return tune(
            self._open,
            adapter,
            TargetOptions.parse(layer=layer, where=where),
            by=by,
            min_per_label=min_per_label,
            plan=plan,
            folds=folds,
            test=test,
            fields=fields,
            format=format,
            dialect=dialect,
            runtime=RuntimeOptions() if runtime is None else runtime,
            on_progress=on_progress,
        )

    def info(self) -> IndexInfo:
        """Return counts, sizes and settings."""
        return read_info(self._open.store)

    def compact(
        self, *, lock_timeout_s: float = 10.0, on_progress: OnProgress | None = None
    ) -> int:
        """Merge small segments and drop dead versions; return how many segments were replaced."""
        from layerdex.storage.maintenance.compaction import compact

        check_callbacks(on_progress=on_progress)
        with self._open.store.write(lock_timeout_s=lock_timeout_s) as writer:
            return compact(self._open.store, writer, on_progress=on_progress)

    def plan_compaction(self) -> Compaction:
        """Return what `compact` would do; nothing is written."""
        from layerdex.storage.maintenance.compaction import plan_compaction

        store = self._open.store
        return store.query(lambda snapshot: plan_compaction(store, snapshot))

    def backup(self, target: str | Path, *, on_progress: OnProgress | None = None) -> int:
        """Copy the newest commit to a new directory, and return how many documents it has.

        A writer may be at work meanwhile. The copy gets the access of the index: its group and
        mode, as far as this user may. Raises `IndexExistsError` where something exists already,
        `OptionError` for a directory inside an index, and `DamagedIndexError` instead of copying
        damage.
        """
        from layerdex.storage.maintenance.backup import back_up

        check_callbacks(on_progress=on_progress)
        path = to_path(target, what="a backup is written to a path")
        return back_up(self._open.store, path, on_progress=on_progress)

    def restore(
        self,
        target: str | Path,
        *,
        lock_timeout_s: float = 10.0,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Put a checked copy of this index, a backup, in the place of the index at ``target``.

        That one is removed once the copy, with its group and mode, is in its place, and nobody can
        write to it meanwhile. It need not exist. Returns the number of documents. Raises
        `IndexExistsError` where something else exists, in its directory or instead of it,
        `OptionError` for a mount point or a directory inside another index, and
        `DamagedIndexError` instead of copying damage.
        """
        from layerdex.storage.maintenance.restore import restore

        check_callbacks(on_progress=on_progress)
        path = to_path(target, what="a backup is restored to a path")
        return restore(
            self._open.store, path, lock_timeout_s=lock_timeout_s, on_progress=on_progress
        )

    def verify(self, *, on_progress: OnProgress | None = None) -> list[Problem]:
        """Check every checksum, every text and the catalog; return the problems found."""
        from layerdex.storage.maintenance.verify import verify

        check_callbacks(on_progress=on_progress)
        return verify(self._open.store, on_progress=on_progress)

    def repair(
        self,
        problems: Sequence[Problem],
        *,
        lock_timeout_s: float = 10.0,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Rebuild the damaged layer files among the problems of `verify`; return how many."""
        from layerdex.indexer.pipeline.repair import repair
        from layerdex.storage.maintenance.verify import Problem

        check_callbacks(on_progress=on_progress)
        what = "give the problems that `verify` returned"
        problems = to_list(problems, what=what)
        for problem in problems:
            check_type(problem, Problem, what=what)
        return repair(
            self._open.store,
            problems,
            lambda: self.encoder,
            lock_timeout_s=lock_timeout_s,
            on_progress=on_progress,
        )


def _unexpected(name: str) -> str:
    message = f"add() got an unexpected keyword argument {name!r}"
    part = name.partition("_")[0]
    return f"{message}: the field is named with {part}=" if name in _FIELD_OPTIONS else message
