"""From rows to answers: the user's own ids and texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from layerdex.arguments import check_between, check_count
from layerdex.errors import DocumentNotFoundError, NoLabelsError
from layerdex.records import (
    Condition,
    Document,
    Keep,
    LayerName,
    OnProgress,
    Operator,
    Rows,
    Vectors,
    Weights,
)
from layerdex.search.classify import encode_labels, labels_of, vote
from layerdex.search.dedup import find_duplicates
from layerdex.search.fusion import Place, find_at, is_ranking, layers_of, name_of, vectors_at
from layerdex.search.neighbors import Neighbors, to_steps
from layerdex.search.random_pairs import Minimum, similarity_at
from layerdex.search.results import Deduplication, Hit, Prediction, Removal, Voter
from layerdex.storage.rows import CHUNK, chunks
from layerdex.storage.snapshot import Facts, Snapshot, Where

# Similarities are shown to the step within which they count as equal.
_DECIMALS = 5


def answer_search(
    snapshot: Snapshot,
    vectors: Mapping[int, Vectors],
    *,
    place: Place,
    k: int,
    where: Where = (),
    minimum: Minimum | None = None,
    leave_out: Rows | None = None,
) -> list[list[Hit]]:
    """Return the hits of each of n questions, whose ``vectors`` (n, width) are given by layer.

    Hits below ``minimum`` are left out, but for those within the same step of similarity; a
    percentile is of all documents, whatever ``where`` says.
    ``leave_out`` (n,) names a row per query that is not an answer: the query itself.
    """
    floor = None if minimum is None else similarity_at(snapshot, place, minimum)
    k = check_count("k", k)
    rows = snapshot.rows(where) if where else None
    n_spare = 0 if leave_out is None else 1
    if leave_out is not None and is_ranking(place):  # the query itself has no rank
        rows = np.setdiff1d(snapshot.rows() if rows is None else rows, leave_out)
    found = find_at(snapshot.layer, vectors, place, k + n_spare, rows=rows)
    documents = snapshot.documents({int(row) for row in found.rows.ravel() if row >= 0})
    left_out = [None] * len(found.rows) if leave_out is None else leave_out.tolist()
    return [
        _hits(found, i, documents, place=place, k=k, floor=floor, leave_out=left_out[i])
        for i in range(len(found.rows))
    ]


def answer_like(
    snapshot: Snapshot,
    document_id: str,
    *,
    places: Sequence[Place],
    k: int,
    where: Where = (),
    minimum: Minimum | None = None,
) -> dict[LayerName, list[Hit]]:
    """Return the hits by a document's stored vectors at each place, itself left out."""
    row = np.array([snapshot.row_of(document_id)])
    return {
        name_of(place): answer_search(
            snapshot,
            {layer: snapshot.layer(layer).gather(row) for layer in layers_of(place)},
            place=place,
            k=k,
            where=where,
            minimum=minimum,
            leave_out=row,
        )[0]
        for place in places
    }


def _hits(
    found: Neighbors,
    query: int,
    documents: dict[int, Document],
    *,
    place: Place,
    k: int,
    floor: float | None,
    leave_out: int | None,
) -> list[Hit]:
    hits: list[Hit] = []
    has_scores = is_ranking(place)
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
                layer=name_of(place),
                score=float(closeness) if has_scores else None,
            )
        )
    return hits[:k]


def answer_classify(
    snapshot: Snapshot,
    texts: Sequence[str],
    vectors: Mapping[int, Vectors],
    *,
    place: Place,
    k: int,
    weights: Weights,
    where: Where = (),
    min_confidence: float = 0.0,
) -> list[Prediction]:
    """Return each text's label by the vote of its k nearest labelled documents.

    Raises `NoLabelsError` where no matching document has a label.
    """
    check_between("a confidence", min_confidence, 0, 1)
    facts = snapshot.facts(where, labelled=True)
    if not len(facts.rows):
        raise NoLabelsError("no document here has a label (see 'layerdex index --label-field')")
    found = find_at(snapshot.layer, vectors, place, k, rows=facts.rows)
    names, codes = encode_labels(facts.labels)
    votes = vote(labels_of(found, facts.rows, codes), found.similarities, weights)
    return [
        Prediction(
            text=text,
            label=names[code] if confidence >= min_confidence else None,
            confidence=round(float(confidence), _DECIMALS),
            layer=name_of(place),
            neighbors=voters(found, i, facts),
        )
        for i, (text, code, confidence) in enumerate(
            zip(texts, votes.labels, votes.confidences, strict=True)
        )
    ]


def voters(found: Neighbors, query: int, facts: Facts) -> tuple[Voter, ...]:
    """Return the neighbours of one query, all of them among ``facts``, as users see them."""
    real = found.rows[query] >= 0
    places = np.searchsorted(facts.rows, found.rows[query][real]).tolist()
    return tuple(
        Voter(facts.ids[place], str(facts.labels[place]), round_similarity(similarity))
        for place, similarity in zip(places, found.similarities[query][real], strict=True)
    )


def answer_dedup(
    snapshot: Snapshot,
    *,
    place: Place,
    threshold: float,
    keep: Keep,
    where: Where = (),
    on_progress: OnProgress | None = None,
) -> Deduplication:
    """Find duplicates among the matching documents, and name them by the user's ids."""
    facts = snapshot.facts(where)
    found = find_duplicates(
        vectors_at(snapshot.layer, place),
        facts,
        threshold=threshold,
        keep=keep,
        on_progress=on_progress,
    )

    def at(row: int) -> int:
        return int(np.searchsorted(facts.rows, row))

    removed = zip(found.removed, found.kept_for, found.similarities, found.is_exact, strict=True)
    return Deduplication(
        layer=name_of(place),
        threshold=threshold,
        keep=keep,
        n=len(facts.rows),
        kept=tuple(facts.ids[at(row)] for row in found.kept),
        removed=tuple(
            Removal(
                id=facts.ids[at(row)],
                kept=facts.ids[at(kept)],
                similarity=round_similarity(similarity),
                is_exact=bool(exact),
                label=facts.labels[at(row)],
                kept_label=facts.labels[at(kept)],
            )
            for row, kept, similarity, exact in removed
        ),
    )


def answer_documents(snapshot: Snapshot, ids: Sequence[str]) -> Iterator[Document]:
    """Yield the documents with these ids, in the order asked; a chunk of them is in memory.

    Raises `DocumentNotFoundError`.
    """
    for chunk in chunks(ids, CHUNK):
        asked = Condition("id", Operator.IN, tuple(chunk))
        found = {document.id: document for document in snapshot.in_input_order((asked,))}
        for one in chunk:
            if one not in found:
                raise DocumentNotFoundError(f"no document has the id {one!r}")
            yield found[one]


def round_similarity(similarity: float) -> float:
    """Round a similarity to the step within which similarities count as equal."""
    return round(float(similarity), _DECIMALS)
