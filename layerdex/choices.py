"""Closed choices: what users pick by a word, in the library and on the command line.

Nothing is imported here but the standard library, so that a help page costs nothing.
"""

from __future__ import annotations

from enum import StrEnum


class Pooling(StrEnum):
    """How token states become one vector."""

    MEAN = "mean"
    CLS = "cls"
    MAX = "max"
    MASK = "mask"


class StoredPrecision(StrEnum):
    """How exactly an index keeps vectors, whatever its encoder computes in."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"
    INT8 = "int8"


class LongText(StrEnum):
    """What becomes of a text that is longer than the maximum length."""

    TRUNCATE = "truncate"
    CHUNK = "chunk"


class Weights(StrEnum):
    """How much a neighbour's vote counts."""

    UNIFORM = "uniform"
    DISTANCE = "distance"


class Classifier(StrEnum):
    """What predicts labels: neighbours, or the head that ``probe --save`` stored."""

    NEIGHBORS = "neighbors"
    HEAD = "head"


class Keep(StrEnum):
    """Which of several duplicates stays."""

    FIRST = "first"
    LAST = "last"
    LONGEST = "longest"


class Change(StrEnum):
    """What a run does to a document."""

    NEW = "new"
    UPDATED = "updated"
    REMOVED = "removed"


class ExportFormat(StrEnum):
    """How ``export`` writes documents; by the file's name unless said."""

    AUTO = "auto"
    JSONL = "jsonl"
    PARQUET = "parquet"
    CSV = "csv"
    NPY = "npy"


class MetadataLayout(StrEnum):
    """Where ``export`` writes metadata: in one object, or each field as a column of its own."""

    OBJECT = "object"
    COLUMNS = "columns"


class OnError(StrEnum):
    """What a bad row does to the run."""

    ABORT = "abort"
    SKIP = "skip"


class OnBlank(StrEnum):
    """What a row without a text does to the run."""

    SKIP = "skip"
    ERROR = "error"


class Missing(StrEnum):
    """What an estimator makes of a text that is missing or blank."""

    ERROR = "error"
    ZERO = "zero"


class Operator(StrEnum):
    """Comparison of a ``where`` condition.

    ``like`` and ``ilike`` take a pattern of SQL; ``is null`` takes no value.
    """

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    GREATER = ">"
    LESS_EQUAL = "<="
    GREATER_EQUAL = ">="
    IN = "in"
    LIKE = "like"
    ILIKE = "ilike"
    IS_NULL = "is null"


class EngineName(StrEnum):
    """What computes the encoder's layers."""

    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"


class Dtype(StrEnum):
    """The dtype an encoder computes in. ``int8`` is never chosen by ``auto``."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


class Fuse(StrEnum):
    """How several layers become one.

    ``mean`` is the weighted mean of the unit vectors, at unit length again. ``concat`` puts them
    side by side, each times its weight, so that a similarity is Σ w² s / Σ w² over the layers.
    ``rrf`` fuses rankings instead, for search only: a document counts Σ w / (60 + rank) (reciprocal
    rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009).
    """

    MEAN = "mean"
    CONCAT = "concat"
    RRF = "rrf"


class RetrievalRules(StrEnum):
    """Which hits of a judged query count.

    ``beir`` leaves out a query's own document, the one with the query's id, as BEIR does; ``trec``
    leaves out none, as trec_eval does.
    """

    BEIR = "beir"
    TREC = "trec"


class TransformName(StrEnum):
    """What is done to vectors before they are compared.

    ``center`` takes the documents' mean off; ``whiten`` then also gives all directions about the
    same variance. Both end in unit vectors.
    """

    NONE = "none"
    CENTER = "center"
    WHITEN = "whiten"


class Loss(StrEnum):
    """What training makes smaller.

    ``head``: cross-entropy of a cosine classifier with a learned direction a label (Wang and
    others, *NormFace*, ACM MM 2017), which is thrown away in the end. ``contrastive``: the
    supervised contrastive loss between the texts of a batch (Khosla and others, NeurIPS 2020,
    their L_out), which has no parameters of its own.
    """

    HEAD = "head"
    CONTRASTIVE = "contrastive"


class Format(StrEnum):
    """How the documents lie in a source."""

    AUTO = "auto"
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"
    XLSX = "xlsx"
    TXT = "txt"
    FOLDER = "folder"


class Quoting(StrEnum):
    """What a double quote means at the start of a cell of csv or tsv.

    ``csv``: it encloses the cell. ``none``: it is part of the text. ``auto``: as ``csv``, but in a
    tsv as ``none`` if every line then has as many cells as the header.
    """

    AUTO = "auto"
    CSV = "csv"
    NONE = "none"
