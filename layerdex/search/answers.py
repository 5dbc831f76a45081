"""From rows to answers: the user's own ids and texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from layerdex.arguments import check_between, check_count
from layerdex.choices import Keep, Operator, Weights
from layerdex.errors import DocumentNotFoundError, NoLabelsError
from layerdex.records import Condition, Document, LayerName, OnProgress, Rows, Vectors
from layerdex.search.dedup.greedy import find_duplicates
from layerdex.search.knn.neighbors import Neighbors
from layerdex.search.knn.random_pairs import MinSimilarity, resolve_min_similarity
from layerdex.search.knn.vector_space import VectorSpace
from layerdex.search.knn.voting import encode_labels, labels_of, vote
from layerdex.search.results import Deduplication, Hit, LabelledNeighbor, Prediction, Removal
from layerdex.search.vectors.similarity import to_steps
from layerdex.storage.catalog.filters import Where
from layerdex.storage.catalog.rows import MAX_PARAMETERS, chunks
from layerdex.storage.snapshot import DocumentTable, Snapshot

# Similarities are shown to the step within which they count as equal.
_DECIMALS = 5


def answer_search(
    snapshot: Snapshot,
    vectors: Mapping[int, Vectors],
    *,
    space: VectorSpace,
    k: int,
    where: Where = (),
    minimum: MinSimilarity | None = None,
    leave_out: Rows | None = None,
) -> list[list[Hit]]:
    """Return the hits of each of n questions, whose ``vectors`` (n, width) are given by layer.

    Hits below ``minimum`` are left out, but for those within the same step of similarity; a
    percentile is of all documents, whatever ``where`` says.
    ``leave_out`` (n,) names a row per query that is not an answer: the query itself.
    """
    floor = None if minimum is None else resolve_min_similarity(snapshot, space, minimum)
    k = check_count("k", k)
    rows = snapshot.rows(where) if where else None
    n_spare = 0 if leave_out is None else 1
    if leave_out is not None and space.is_ranking:  # the query itself has no rank
        rows = np.setdiff1d(snapshot.rows() if rows is None else rows, leave_out)
    found = space.find(snapshot.layer, vectors, k + n_spare, rows=rows)
    documents = snapshot.documents({int(row) for row in found.rows.ravel() if row >= 0})
    left_out = [None] * len(found.rows) if leave_out is None else leave_out.tolist()
    return [
        _hits(found, i, documents, space=space, k=k, floor=floor, leave_out=left_out[i])
        for i in range(len(found.rows))
    ]


def answer_like(
    snapshot: Snapshot,
    document_id: str,
    *,
    spaces: Sequence[VectorSpace],
    k: int,
    where: Where = (),
    minimum: MinSimilarity | None = None,
) -> dict[LayerName, list[Hit]]:
    """Return the hits by a document's stored vectors at each space, itself left out."""
    row = np.array([snapshot.row_of(document_id)])
    return {
        space.name: answer_search(
            snapshot,
            {layer: snapshot.layer(layer).gather(row) for layer in space.layers},
            space=space,
            k=k,
            where=where,
            minimum=minimum,
            leave_out=row,
        )[0]
        for space in spaces
    }


def _hits(
    found: Neighbors,
    query: int,
    documents: dict[int, Document],
    *,
    space: VectorSpace,
    k: int,
    floor: float | None,
    leave_out: int | None,
) -> list[Hit]:
    hits: list[Hit] = []
    has_scores = space.is_ranking
    near = found.similarities[query]
    is_close = to_steps(near) >= (-np.inf if floor is None else to_steps(floor))
    for row, closeness, is_hit in zip(found.rows[query], near, is_close, strict=True):
        if row < 0 or row == leave_out or not is_hit:
            continue
        document = documents[int(row)]
        hits.append(
            Hit(
                rank=len(hits) + 1,
                id=document.id,
                similarity=None if has_scores else round_similarity(closeness),
                label=document.label,
                text=document.text,
                metadata=document.metadata,
                layer=space.name,
                score=float(closeness) if has_scores else None,
            )
        )
    return hits[:k]


def answer_classify(
    snapshot: Snapshot,
    texts: Sequence[str],
    vectors: Mapping[int, Vectors],
    *,
    space: VectorSpace,
    k: int,
    weights: Weights,
    where: Where = (),
    min_confidence: float = 0.0,
) -> list[Prediction]:
    """Return each text's label by the vote of its k nearest labelled documents.

    Raises `NoLabelsError` where no matching document has a label.
    """
    check_between("a confidence", min_confidence, 0, 1)
    table = snapshot.document_table(where, labelled=True)
    if not len(table.rows):
        raise NoLabelsError("no document here has a label (see 'layerdex index --label-field')")
    found = space.find(snapshot.layer, vectors, k, rows=table.rows)
    names, codes = encode_labels(table.labels)
    votes = vote(labels_of(found, table.rows, codes), found.similarities, weights)
    return [
        Prediction(
            text=text,
            label=names[code] if confidence >= min_confidence else None,
            confidence=round(float(confidence), _DECIMALS),
            layer=space.name,
            neighbors=labelled_neighbors(found, i, table),
        )
        for i, (text, code, confidence) in enumerate(
            zip(texts, votes.labels, votes.confidences, strict=True)
        )
    ]


def labelled_neighbors(
    found: Neighbors, query: int, table: DocumentTable
) -> tuple[LabelledNeighbor, ...]:
    """Return the neighbours of one query, all of them among ``table``, as users see them."""
    real = found.rows[query] >= 0
    spaces = np.searchsorted(table.rows, found.rows[query][real]).tolist()
    return tuple(
        LabelledNeighbor(table.ids[space], str(table.labels[space]), round_similarity(similarity))
        for space, similarity in zip(spaces, found.similarities[query][real], strict=True)
    )


def answer_dedup(
    snapshot: Snapshot,
    *,
    space: VectorSpace,
    threshold: float,
    keep: Keep,
    where: Where = (),
    on_progress: OnProgress | None = None,
) -> Deduplication:
    """Find duplicates among the matching documents, and name them by the user's ids."""
    table = snapshot.document_table(where)
    found = find_duplicates(
        space.vectors(snapshot.layer),
        table,
        threshold=threshold,
        keep=keep,
        on_progress=on_progress,
    )

    def at(row: int) -> int:
        return int(np.searchsorted(table.rows, row))

    removed = zip(found.removed, found.kept_for, found.similarities, found.is_exact, strict=True)
    return Deduplication(
        layer=space.name,
        threshold=threshold,
        keep=keep,
        n=len(table.rows),
        kept=tuple(table.ids[at(row)] for row in found.kept),
        removed=tuple(
            Removal(
                id=table.ids[at(row)],
                kept=table.ids[at(kept)],
                similarity=round_similarity(similarity),
                is_exact=bool(exact),
                label=table.labels[at(row)],
                kept_label=table.labels[at(kept)],
            )
            for row, kept, similarity, exact in removed
        ),
    )


def answer_documents(snapshot: Snapshot, ids: Sequence[str]) -> Iterator[Document]:
    """Yield the documents with these ids, in the order asked; a chunk of them is in memory.

    Raises `DocumentNotFoundError`.
    """
    for chunk in chunks(ids, MAX_PARAMETERS):
        asked = Condition("id", Operator.IN, tuple(chunk))
        found = {document.id: document for document in snapshot.in_input_order((asked,))}
        for one in chunk:
            if one not in found:
                raise DocumentNotFoundError(f"no document has the id {one!r}")
            yield found[one]


def round_similarity(similarity: float) -> float:
    """Round a similarity to the step within which similarities count as equal."""
    return round(float(similarity), _DECIMALS)
