"""What ``layerdex evaluate`` measures layers by: labels, judged queries, or judged pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.choices import Classifier, RetrievalRules, Weights
from layerdex.cli.options import (
    BOTH,
    VOTE_WEIGHTS,
    EnumChoice,
    NumbersType,
    PathType,
    SourceOptions,
    collect,
    combine,
    min_per_label_option,
    query_template_option,
    source_options,
)

if TYPE_CHECKING:
    from layerdex.index import Index
    from layerdex.index.tasks import Task


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How labels are predicted, or the files of judged queries or pairs."""

    k: list[int]
    weights: Weights | str  # or BOTH
    by: tuple[str, ...]
    min_per_label: int
    folds: int | None
    sample: int | None
    seed: int
    test: str | None
    classifier: Classifier
    queries: str | None
    qrels: Path | None
    rules: RetrievalRules
    query_template: str | None
    pairs: str | None
    positive_from: float | None
    sentence1_field: str
    sentence2_field: str
    score_field: str | None

    def tasks(self, index: Index, source: SourceOptions) -> list[Task]:
        """Return the library's task, or one for each field to predict; raises `OptionError`."""
        from layerdex.index import LabelTask, PairTask, RetrievalTask
        from layerdex.index.checks import fields_of_test_set

        if self.queries is not None and self.qrels is not None:
            return [
                RetrievalTask(
                    self.queries,
                    self.qrels,
                    query_template=self.query_template,
                    text_field=source.fields.text,
                    id_field=source.id_field,
                    rules=self.rules,
                    dialect=source.dialect,
                )
            ]
        if self.pairs is not None:
            return [
                PairTask(
                    self.pairs,
                    self.positive_from,
                    source.format,
                    source.dialect,
                    sentence1_field=self.sentence1_field,
                    sentence2_field=self.sentence2_field,
                    score_field=self.score_field,
                    label_field=source.label_field,
                )
            ]
        weights = [Weights.DISTANCE, Weights.UNIFORM] if self.weights == BOTH else self.weights
        return [
            LabelTask(
                by=field,
                min_per_label=self.min_per_label,
                folds=self.folds,
                sample=self.sample,
                seed=self.seed,
                k=self.k,
                weights=weights,
                test=self.test,
                classifier=self.classifier,
                fields=fields_of_test_set(index, by=field, **source.names),
                format=source.format,
                dialect=source.dialect,
            )
            for field in self.by or ("label",)
        ]


task_options = combine(
    click.option(
        "-k",
        type=NumbersType(),
        default="10",
        show_default=True,
        help="Number of neighbours, or several such as 1,5,10.",
    ),
    click.option(
        "--weights",
        type=EnumChoice([*Weights, BOTH]),
        default=Weights.DISTANCE.value,
        show_default=True,
        help=VOTE_WEIGHTS,
    ),
    click.option(
        "--by",
        multiple=True,
        metavar="FIELD",
        help="Predict this metadata field instead of the label; repeatable ('label' is the label).",
    ),
    min_per_label_option,
    click.option(
        "--folds",
        type=click.IntRange(min=2),
        metavar="N",
        help="Cross-validate on N folds instead of leaving one document out.",
    ),
    click.option(
        "--sample",
        type=click.IntRange(min=1),
        metavar="N",
        help="Leave out N documents only, drawn label by label, and estimate the figures for all.",
    ),
    click.option(
        "--seed",
        metavar="N",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Random seed of --sample.",
    ),
    click.option(
        "--test",
        metavar="FILE",
        help="Classify this labelled file, read with the options up to --sheet.",
    ),
    click.option(
        "--with",
        "classifier",
        type=EnumChoice(Classifier),
        default=Classifier.NEIGHBORS.value,
        show_default=True,
        help="Measure neighbours, or with --test the head that 'probe --save' stored.",
    ),
    source_options,
    click.option(
        "--queries",
        metavar="FILE",
        help="Measure retrieval instead: queries with an id and a text (jsonl, tsv, ...), whose "
        "fields --id-field and --text-field name.",
    ),
    click.option(
        "--qrels",
        type=PathType(dir_okay=False),
        metavar="FILE",
        help="Which documents are relevant to --queries: TREC's qrels, or BEIR's tsv or jsonl.",
    ),
    click.option(
        "--rules",
        type=EnumChoice(RetrievalRules),
        default=RetrievalRules.BEIR.value,
        show_default=True,
        help="With --queries: leave the document with a query's own id out of its hits, as BEIR "
        "does, or no document, as trec_eval does.",
    ),
    query_template_option,
    click.option(
        "--pairs",
        metavar="FILE",
        help="Measure similarity instead: sentence1, sentence2, and a score, or a label 0 or 1 "
        "(jsonl, csv, tsv, ...).",
    ),
    click.option(
        "--sentence1-field",
        default="sentence1",
        show_default=True,
        help="Field of the first text of --pairs.",
    ),
    click.option(
        "--sentence2-field",
        default="sentence2",
        show_default=True,
        help="Field of the second text of --pairs.",
    ),
    click.option(
        "--score-field",
        help="Field of the score of --pairs; --label-field names that of a label instead. "
        "[default: score or label, whichever there is]",
    ),
    click.option(
        "--positive-from",
        type=float,
        metavar="SCORE",
        help="Turn the scores of --pairs into labels: 1 from this score on, else 0.",
    ),
    collect(TaskOptions, "task"),
)
"""The options of a `TaskOptions` and of a `SourceOptions`, as ``task`` and ``source``."""
