"""`View`: a target bound to an index, and the questions that can be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import partial

from layerdex.arguments import check_callbacks, check_count, check_type, to_choice
from layerdex.choices import Keep, Weights
from layerdex.index.comparing import compare
from layerdex.index.document_reader import DocumentReader
from layerdex.index.evaluating import evaluate, labelled_table
from layerdex.index.open_index import (
    HasOpenIndex,
    OpenIndex,
    QueryVectors,
    as_list,
    opened,
    query_vectors,
)
from layerdex.index.target_options import TargetOptions, check_has_vectors, default_layer
from layerdex.index.tasks import LABEL, LabelTask, Task
from layerdex.records import OnProgress, progress_of_parts, progress_of_shares, tell_end
from layerdex.search.dedup.greedy import deduplicate
from layerdex.search.dedup.overlap import Overlap, Overlaps, find_overlap
from layerdex.search.dedup.threshold_sweep import ThresholdSweep, sweep_thresholds
from layerdex.search.evaluation.comparison import Comparison
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.geometry import N_SAMPLED, Geometry, describe_layers
from layerdex.search.evaluation.vote_scores import N_RESAMPLES, VotingOptions
from layerdex.search.knn.random_pairs import parse_min_similarity
from layerdex.search.knn.search import GetApproximate, search_by_documents, search_documents
from layerdex.search.knn.tiles.costs import pair_ns
from layerdex.search.labels.classify import classify_texts
from layerdex.search.labels.label_issues import LabelIssues, find_label_issues
from layerdex.search.labels.label_scores import N_NEIGHBORS
from layerdex.search.labels.probe import Probe, probe_layers
from layerdex.search.results import (
    Deduplication,
    Prediction,
    Predictions,
    SearchResult,
    SearchResults,
)
from layerdex.storage.snapshot import Snapshot

_ENCODE_TEXT_NS = 1e6
"""About what a short text takes with a small model on a CPU."""

_N_STEPS = 1_000
"""Of the progress of a batch of texts."""


@dataclass(frozen=True, slots=True)
class View:
    """An index seen at a layer, or at several layers side by side or fused; see `Index.at`.

    Every question is answered from the newest commit, in one transaction, which also resolves what
    the target stands for: a saved best layer, stored transforms, conditions. Questions about one
    layer take the saved best layer by default, else the deepest; questions that compare layers take
    all of them.
    """

    _index: OpenIndex
    _options: TargetOptions

    def __repr__(self) -> str:
        values = {field: getattr(self._options, field.name) for field in fields(TargetOptions)}
        given = {field.name: value for field, value in values.items() if value != field.default}
        target = ", ".join(
            f"{name}={(str(value) if isinstance(value, StrEnum) else value)!r}"
            for name, value in given.items()
        )
        return f"<View of {str(self._index.store.path)!r} at {target or 'the default'}>"

    def search(
        self,
        queries: str | Iterable[str],
        *,
        k: int = 10,
        min_similarity: float | str | None = None,
        query_template: str | None = None,
        exact: bool = False,
        on_progress: OnProgress | None = None,
    ) -> SearchResults:
        """Return the k documents most similar to each text: a result per query and layer.

        Results are in the order of the queries, and for each query in the order of the layers. They
        are a list, with `to_pandas` for one data frame of all hits, which has several rows per
        query and so an index of its own, not that of a pandas series of queries.
        ``min_similarity`` is from -1 to 1, or such as ``"p99"``: the similarity that 99 % of random
        pairs of documents are below at the layer. ``query_template`` is put around the texts in
        place of the index's own. Where `Index.accelerate` was asked for, plain vectors are compared
        approximately, and ``result.exact`` is False; with ``exact`` every document is compared.
        """
        check_callbacks(on_progress=on_progress)
        listed = as_list(queries)
        shares = self._shares_of_search(len(listed), on_progress)
        told = progress_of_shares(on_progress, shares, _N_STEPS)
        texts = query_vectors(self._index, listed, query_template, told[0])
        check_count("k", k)
        lowest = None if min_similarity is None else parse_min_similarity(min_similarity)
        check_type(exact, bool, what="exact is True or False")

        def question(snapshot: Snapshot) -> list[SearchResult]:
            spaces = self._options.spaces(self._index, snapshot)
            vectors = texts.at(layer for space in spaces for layer in space.layers)
            parts = progress_of_parts(told[1], len(spaces))
            by_space = [
                search_documents(
                    snapshot,
                    texts.texts,
                    vectors,
                    space=space,
                    k=k,
                    min_similarity=lowest,
                    get_approximate=self._get_approximate(snapshot, exact),
                    on_progress=tell,
                )
                for tell, space in zip(parts, spaces, strict=True)
            ]
            tell_end(told[1])
            return [result for results in zip(*by_space, strict=True) for result in results]

        target = ("search", *self._options.target_of_layers)
        return SearchResults(self._index.query_by(texts, target, question))

    def _shares_of_search(
        self, n_texts: int, on_progress: OnProgress | None
    ) -> tuple[float, float]:
        """Return what encoding one of n texts and searching by it take, in nanoseconds."""
        if on_progress is None:
            return _ENCODE_TEXT_NS, 0.0

        def search_ns(snapshot: Snapshot) -> float:
            n, width = snapshot.n_documents, self._index.store.settings.width
            return n * pair_ns(n, width, n_texts) * len(self._options.spaces(self._index, snapshot))

        return _ENCODE_TEXT_NS, self._index.query(search_ns)

    def search_like(
        self,
        ids: str | Iterable[str],
        *,
        k: int = 10,
        min_similarity: float | str | None = None,
        exact: bool = False,
    ) -> SearchResults:
        """Search by documents' stored vectors; see `search`. A document is no hit of itself.

        Raises `DocumentNotFoundError`.
        """
        ids = as_list(ids)
        for document_id in ids:
            check_type(document_id, str, what="an id is a string")
        lowest = None if min_similarity is None else parse_min_similarity(min_similarity)
        check_type(exact, bool, what="exact is True or False")

        def question(snapshot: Snapshot) -> list[SearchResult]:
            by_space = [
                search_by_documents(
                    snapshot,
                    ids,
                    space=space,
                    k=k,
                    min_similarity=lowest,
                    get_approximate=self._get_approximate(snapshot, exact),
                )
                for space in self._options.spaces(self._index, snapshot)
            ]
            return [result for results in zip(*by_space, strict=True) for result in results]

        return SearchResults(self._index.query(question))

    def _get_approximate(self, snapshot: Snapshot, exact: bool) -> GetApproximate | None:
        if exact:
            return None
        return partial(self._index.approximates.find, self._index.store, snapshot)

    def classify(
        self,
        texts: str | Iterable[str],
        *,
        k: int = 10,
        weights: Weights | str = Weights.DISTANCE,
        min_confidence: float = 0.0,
        on_result: Callable[[list[Prediction], DocumentReader], None] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Predictions:
        """Label texts by the vote of their k nearest labelled documents.

        A label is None below ``min_confidence``. The data frame of a pandas series of texts has
        its index, so that ``df["predicted"] = view.classify(df.text).to_pandas().label`` fits.
        ``on_result`` is as in `deduplicate`. Raises
        `NoLabelsError` where no document of the target has a label.
        """
        check_callbacks(on_result=on_result, on_progress=on_progress)
        listed = as_list(texts)
        shares = self._shares_of_search(len(listed), on_progress)
        told = progress_of_shares(on_progress, shares, _N_STEPS)
        vectors = QueryVectors(self._index, listed, on_progress=told[0])
        check_count("k", k)
        weights = to_choice(Weights, weights)

        def question(snapshot: Snapshot) -> list[Prediction]:
            space = self._options.space(self._index, snapshot)
            predictions = classify_texts(
                snapshot,
                vectors.texts,
                vectors.at(space.layers),
                space=space,
                k=k,
                weights=weights,
                min_confidence=min_confidence,
                on_progress=told[1],
            )
            if on_result is not None:
                on_result(predictions, DocumentReader(self._index.store, snapshot))
            return predictions

        target = ("classify", *self._options.target_of_layers)
        return Predictions(self._index.query_by(vectors, target, question), texts=texts)

    def deduplicate(
        self,
        *,
        threshold: float = 0.9,
        keep: Keep | str = Keep.FIRST,
        on_progress: OnProgress | None = None,
        on_result: Callable[[Deduplication, DocumentReader], None] | None = None,
    ) -> Deduplication:
        """Find exact and near duplicates; nothing is removed from the index.

        ``on_result`` gets the result and, while it runs, a reader of the documents as they were
        when they were compared, whatever others write meanwhile.
        """
        keep = to_choice(Keep, keep)
        check_callbacks(on_progress=on_progress, on_result=on_result)

        def question(snapshot: Snapshot) -> Deduplication:
            result = deduplicate(
                snapshot,
                space=self._options.space(self._index, snapshot),
                threshold=threshold,
                keep=keep,
                on_progress=on_progress,
            )
            if on_result is not None:
                on_result(result, DocumentReader(self._index.store, snapshot))
            return result

        return self._index.query(question)

    def suggest_thresholds(
        self, *, keep: Keep | str = Keep.FIRST, on_progress: OnProgress | None = None
    ) -> ThresholdSweep:
        """Count what `deduplicate` would remove at each of many thresholds, in one pass.

        Beside the counts are the similarities of nearest neighbours and of random pairs, and the
        pairs closest to each threshold. Raises `OptionError` for fewer than two texts.
        """
        keep = to_choice(Keep, keep)
        check_callbacks(on_progress=on_progress)
        return self._index.query(
            lambda snapshot: sweep_thresholds(
                snapshot,
                space=self._options.space(self._index, snapshot),
                keep=keep,
                on_progress=on_progress,
            )
        )

    def find_overlap(
        self,
        other: HasOpenIndex,
        *,
        threshold: float = 0.9,
        on_progress: OnProgress | None = None,
        on_result: Callable[[list[Overlap], DocumentReader], None] | None = None,
    ) -> Overlaps:
        """Find which of this index's documents the other index has too, per layer of the target.

        The target's conditions choose among this index's documents; its transform is this index's,
        for both. ``on_result`` is as in `deduplicate`. Raises `IndexMismatchError` where the
        vectors of the two indexes cannot be compared.
        """
        from layerdex.indexer.models.compatibility import check_fingerprint

        second_index = opened(other)
        check_callbacks(on_progress=on_progress, on_result=on_result)
        check_fingerprint(second_index.store.settings, self._index.store.settings)

        def question(first: Snapshot, second: Snapshot) -> list[Overlap]:
            spaces = self._options.spaces(self._index, first)
            check_has_vectors(spaces)
            for space in spaces:
                second_index.resolve_layers(space.layers)
            tables = first.document_table(self._options.where), second.document_table()
            overlaps = [
                find_overlap(
                    first.layer,
                    tables[0],
                    second.layer,
                    tables[1],
                    space=space,
                    threshold=threshold,
                    on_progress=tell,
                )
                for tell, space in zip(
                    progress_of_parts(on_progress, len(spaces)), spaces, strict=True
                )
            ]
            if on_result is not None:
                on_result(overlaps, DocumentReader(self._index.store, first))
            return overlaps

        return Overlaps(self._index.query_with(second_index, question))

    def find_label_issues(
        self,
        *,
        k: int = N_NEIGHBORS,
        by: str = LABEL,
        min_per_label: int = 1,
        limit: int | None = None,
        on_progress: OnProgress | None = None,
        on_result: Callable[[LabelIssues, DocumentReader], None] | None = None,
    ) -> LabelIssues:
        """Find documents whose label disagrees with their neighbours at most of the layers.

        ``by`` and ``min_per_label`` are as in `evaluate`; ``limit`` keeps the first issues.
        Neighbours are shown at the default layer, or at the deepest one compared where it is not
        among these. ``on_result`` is as in `deduplicate`. Raises `NoLabelsError` for fewer than two
        labels.
        """
        check_count("k", k)
        check_type(by, str, what="labels are one field")
        check_count("min_per_label", min_per_label)
        if limit is not None:
            check_count("limit", limit)
        check_callbacks(on_progress=on_progress, on_result=on_result)

        def question(snapshot: Snapshot) -> LabelIssues:
            spaces = self._options.layer_spaces(self._index, snapshot)
            layers = [space.name for space in spaces]
            default = default_layer(self._index, snapshot)
            issues = find_label_issues(
                snapshot,
                labelled_table(snapshot, self._options.where, by, min_per_label),
                spaces=spaces,
                listed=layers.index(default) if default in layers else len(layers) - 1,
                k=k,
                limit=limit,
                label_field=by,
                on_progress=on_progress,
            )
            if on_result is not None:
                on_result(issues, DocumentReader(self._index.store, snapshot))
            return issues

        return self._index.query(question)

    def probe(
        self,
        *,
        k: int = 10,
        folds: int = 3,
        by: str = LABEL,
        min_per_label: int = 1,
        n_resamples: int = N_RESAMPLES,
        on_progress: OnProgress | None = None,
    ) -> Probe:
        """Cross-validate a linear classifier at each layer, beside k neighbours on the same folds.

        ``by`` and ``min_per_label`` are as in `evaluate`. Nothing is stored; see `Index.save_head`.
        Raises `NoLabelsError` for fewer than two labels.
        """
        check_type(by, str, what="labels are one field")
        check_count("min_per_label", min_per_label)
        check_count("folds", folds, least=2)
        check_callbacks(on_progress=on_progress)
        voting = VotingOptions((check_count("k", k),), n_resamples=n_resamples)
        spaces = self._options.stored_spaces(self._index)

        def question(snapshot: Snapshot) -> Probe:
            probe = probe_layers(
                snapshot.layer,
                labelled_table(snapshot, self._options.where, by, min_per_label),
                spaces=spaces,
                n_folds=folds,
                options=voting,
                on_progress=on_progress,
            )
            field = snapshot.find_field(by)
            return probe if field is None else replace(probe, label_field=field.reference)

        probe = self._index.query(question)
        return replace(probe, fingerprint=self._index.store.settings.fingerprint)

    def describe_layers(
        self,
        *,
        k: int = 10,
        n_sampled: int = N_SAMPLED,
        seed: int = 0,
        on_progress: OnProgress | None = None,
    ) -> Geometry:
        """Return label-free figures of each layer, and how far layers agree on neighbours.

        They are of at most ``n_sampled`` documents drawn with ``seed``, each text once: rank,
        anisotropy, hubness, intrinsic dimension and percentiles of the similarity of random pairs
        (see `Geometry`). Raises `OptionError` for fewer than k + 2 texts.
        """
        check_count("the seed", seed, least=0)
        check_callbacks(on_progress=on_progress)
        layers = [space.layers[0] for space in self._options.stored_spaces(self._index)]
        return self._index.query(
            lambda snapshot: describe_layers(
                snapshot,
                layers=layers,
                where=self._options.where,
                k=k,
                n_sampled=n_sampled,
                seed=seed,
                on_progress=on_progress,
            )
        )

    def evaluate(
        self,
        task: Task | None = None,
        *,
        n_resamples: int = N_RESAMPLES,
        on_progress: OnProgress | None = None,
    ) -> Evaluation:
        """Measure each layer at a task, and layers fused as well as alone.

        ``task`` is a `LabelTask` (the default: neighbours predict labels, leaving one out), a
        `RetrievalTask` or a `PairTask`. ``n_resamples`` bootstrap resamples give the 95 %
        intervals; 0 gives none. Raises what the task says.
        """
        check_callbacks(on_progress=on_progress)
        check_count("n_resamples", n_resamples, least=0)
        task = LabelTask() if task is None else task
        return evaluate(
            self._index, self._options, task, n_resamples=n_resamples, on_progress=on_progress
        )

    def compare(
        self,
        other: HasOpenIndex,
        task: Task | None = None,
        *,
        n_resamples: int = N_RESAMPLES,
        on_progress: OnProgress | None = None,
    ) -> Comparison:
        """Measure this index and another one with the same documents at the same task.

        A difference is the other index's figure minus this one's, with the 95 % interval of the
        paired bootstrap. Documents are matched by id; those in only one index, and those with
        another text (or label, where labels are predicted), are left out and counted. Raises
        `OptionError` where the indexes share no document or layer, or for a task with a test set.
        """
        check_callbacks(on_progress=on_progress)
        check_count("n_resamples", n_resamples, least=0)
        return compare(
            (self._index, opened(other)),
            self._options,
            LabelTask() if task is None else task,
            n_resamples=n_resamples,
            on_progress=on_progress,
        )
