"""Adapting the encoder to an index's labels, and measuring what that changed."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.arguments import check_callbacks, check_count, to_choice, to_path
from layerdex.errors import NoLabelsError, OptionError, StorageError
from layerdex.index.encoders import make_encoder
from layerdex.index.evaluations import LABEL, labelled_table, with_label_field
from layerdex.index.questions import Questions
from layerdex.layers import LayerSelection
from layerdex.records import Encoder, EncoderSettings, OnProgress, Source, Vectors
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.filters import Expressions, parse_where
from layerdex.search.knn.vector_space import layer_spaces
from layerdex.search.labels.training_split import LabelledTexts, TrainingSplit, make_training_split
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.vectors.codecs import as_stored

if TYPE_CHECKING:
    from layerdex.choices import Format
    from layerdex.indexer.readers import Fields
    from layerdex.indexer.training.plan import Plan, Trained
    from layerdex.indexer.training.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Tuning:
    """An adapter that was trained, and neighbour classification before and after it.

    ``before`` and ``after`` measure the same texts at the same layers: a test set, or, where none
    was given, the held-out fold (``is_test`` False), which is not quite untouched, as it chose the
    epoch. ``n_left_out`` documents have a text of the test set: they vote, and did not train.
    """

    adapter: Path
    layer: int
    trained: Trained
    n_training: int
    n_held_out: int
    n_left_out: int
    is_test: bool
    before: Evaluation
    after: Evaluation


class Tunings(Questions):
    """The part of `Index` that adapts its encoder."""

    def tune(
        self,
        adapter: str | Path,
        *,
        layer: LayerSelection | None = None,
        by: str = LABEL,
        where: Expressions = None,
        min_per_label: int = 2,
        plan: Plan | None = None,
        folds: int = 10,
        test: Source | None = None,
        fields: Fields | None = None,
        format: Format | str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        engine: str = "auto",
        on_progress: OnProgress | None = None,
    ) -> Tuning:
        """Train a LoRA adapter on the encoder up to a layer, and write it to a new folder.

        The index stays as it is: make another with ``adapter``. One of ``folds`` folds of the
        labelled documents (see `evaluate_on_folds`) is held out of training and chooses the
        epoch; a document with a text of the ``test`` set does not train either. Raises
        `OptionError` where the folder is there or the index has an adapter already,
        `NoLabelsError`, `ModelError` or `MissingPackageError` (the extra ``tune``).
        """
        from layerdex.indexer.models.adapters import import_peft
        from layerdex.indexer.training.plan import Plan

        target = _check_target(adapter)
        conditions = parse_where(where)
        chosen = _check_layer(self.choose_layer(layer), self.store.settings)
        check_callbacks(on_progress=on_progress)
        check_count("min_per_label", min_per_label)
        import_peft()  # or fail before any work is done
        settings = self.encoder.settings  # the model's space is where it lies now
        asked = None if test is None else _read_test(test, format=format, fields=fields)
        layers = tuple(one for one in self.layers if one <= chosen)
        asked_vectors = {} if asked is None else self.encode_at(asked.texts, layer_spaces(layers))

        def question(snapshot: Snapshot) -> tuple[TrainingSplit, Evaluation, Vectors]:
            table = labelled_table(snapshot, conditions, by, min_per_label)
            documents = snapshot.documents(table.rows.tolist())
            texts = [documents[row].text for row in table.rows.tolist()]
            lesson = make_training_split(table, texts, n_folds=folds, test=asked)
            before = lesson.evaluate(snapshot.layer, asked_vectors, layers)
            return lesson, before, lesson.label_means(snapshot.layer(chosen))

        lesson, before, means = self.store.query(question)
        trainer = _make_trainer(
            settings, layer=chosen, plan=plan or Plan(), device=device, dtype=dtype
        )
        trained = trainer.train(
            lesson.texts,
            lesson.codes,
            training=lesson.training,
            held_out=lesson.held_out,
            directions=means,
            judge=lesson.judge,
            on_progress=on_progress,
        )
        _write_whole(target, trainer)
        encoder = _tuned_encoder(settings, target, device=device, dtype=dtype, engine=engine)
        return Tuning(
            adapter=target,
            layer=chosen,
            trained=trained,
            n_training=len(lesson.training),
            n_held_out=len(lesson.held_out),
            n_left_out=lesson.n_left_out,
            is_test=asked is not None,
            before=with_label_field(before, by),
            after=with_label_field(self._measure_after(lesson, encoder, layers), by),
        )

    def _measure_after(
        self, lesson: TrainingSplit, encoder: Encoder, layers: tuple[int, ...]
    ) -> Evaluation:
        """Measure what an index made with ``encoder`` would answer."""
        codec = self.store.codec

        def encode(texts: list[str]) -> dict[int, Vectors]:
            vectors = encoder.encode(texts, layers).vectors
            return {n: as_stored(one, codec) for n, one in zip(layers, vectors, strict=True)}

        asked = {} if lesson.test is None else encode(lesson.test.texts)
        return lesson.evaluate(lesson.sources(encode(lesson.texts)), asked, layers)


def _check_target(adapter: str | Path) -> Path:
    target = to_path(adapter, what="an adapter is a folder's path").expanduser().resolve()
    if target.exists():
        raise OptionError(f"{target} is there already: give the adapter a new folder")
    if not target.parent.is_dir():
        raise OptionError(f"there is no folder {target.parent} for the adapter")
    return target


def _check_layer(layer: int, settings: EncoderSettings) -> int:
    if settings.adapter is not None:
        raise OptionError("this index has an adapter already: tune one of the model alone")
    if layer == 0:
        raise OptionError("layer 0 has no encoder blocks below it: choose a deeper one (--layer)")
    return layer


def _read_test(source: Source, *, format: Format | str, fields: Fields | None) -> LabelledTexts:
    from layerdex.indexer.readers.sources import read_labelled

    texts, labels = read_labelled(source, format=format, fields=fields)
    if not texts:
        raise NoLabelsError("the test set has no documents")
    return LabelledTexts(texts, labels)


def _make_trainer(
    settings: EncoderSettings, *, layer: int, plan: Plan, device: str, dtype: str
) -> Trainer:
    from layerdex.choices import Dtype
    from layerdex.indexer.models.model_folder import find_model
    from layerdex.indexer.training.trainer import Trainer

    folder = find_model(settings.model, revision=settings.revision)
    precision = to_choice(Dtype, dtype)
    return Trainer(folder, settings, layer=layer, plan=plan, device=device, precision=precision)


def _write_whole(target: Path, trainer: Trainer) -> None:
    """Write the adapter so that its folder is there whole or not at all."""
    made: Path | None = None
    try:
        made = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        trainer.write(made)
        made.chmod(0o755)  # mkdtemp's is for its owner alone
        made.rename(target)
    except OSError as error:
        raise StorageError(f"cannot write the adapter {target}: {error}") from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _tuned_encoder(
    settings: EncoderSettings, adapter: Path, *, device: str, dtype: str, engine: str
) -> Encoder:
    return make_encoder(
        settings.model,
        revision=settings.revision,
        adapter=str(adapter),
        pooling=settings.pooling,
        template=settings.template,
        max_length=settings.max_length,
        long=settings.long,
        device=device,
        dtype=dtype,
        engine=engine,
    )
