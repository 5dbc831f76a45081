"""Adapting the encoder to an index's labels, and measuring what that changed."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.arguments import check_callbacks, check_unicode, expand_home, to_path
from layerdex.choices import Dtype, Format
from layerdex.errors import OptionError, StorageError
from layerdex.index.encoders import make_encoder
from layerdex.index.evaluating import labelled_table, with_label_field
from layerdex.index.open_index import OpenIndex, QueryVectors
from layerdex.index.target_options import TargetOptions
from layerdex.index.tasks import LabelTask
from layerdex.indexer.models.compatibility import choose_runtime
from layerdex.indexer.quantization.calibration import Calibration
from layerdex.indexer.training.plan import Plan
from layerdex.options import RuntimeOptions
from layerdex.records import Encoder, EncoderSettings, OnProgress, Source, Vectors
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.labels.training_split import TrainingSplit, make_training_split
from layerdex.search.plots.loss_curve import draw_losses
from layerdex.storage.files import name_start
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.vectors.codecs import as_stored
from layerdex.tabular import NUMBER, WHOLE, Table, Tabular
from layerdex.wording import METRIC_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from layerdex.indexer.readers.dialect import Dialect
    from layerdex.indexer.readers.fields import Fields
    from layerdex.indexer.training.plan import Trained
    from layerdex.indexer.training.trainer import Trainer


@dataclass(frozen=True, slots=True, repr=False)
class Tuning(Tabular):
    """An adapter that was trained, and neighbour classification before and after it.

    ``before`` and ``after`` measure the same texts at the same layers: a test set, or without one
    (``is_test`` False) the held-out fold, which chose the epoch and so flatters a little.
    ``n_left_out`` documents have a text of the test set: they vote, but were not trained on.
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

    def plot(self) -> Figure:
        """Draw the loss by step and the held-out accuracy by epoch, and return the figure."""
        return draw_losses(
            self.trained.losses,
            [(epoch.number, epoch.accuracy) for epoch in self.trained.epochs],
            best_epoch=self.trained.best_epoch,
            n_held_out=self.n_held_out,
        )

    def _summary(self) -> str:
        metric = self.before.metrics[0]
        before, after = self.before.best.values[metric], self.after.best.values[metric]
        what = METRIC_NAMES[metric]
        return f"{what} {before:.4f} before, {after:.4f} after; adapter {str(self.adapter)!r}"

    def _table(self) -> Table:
        """Return the loss and the held-out accuracy after each epoch."""
        rows = [
            {"epoch": epoch.number, "loss": epoch.loss, "accuracy": epoch.accuracy}
            for epoch in self.trained.epochs
        ]
        return Table({"epoch": WHOLE, "loss": NUMBER, "accuracy": NUMBER}, len(rows), rows)


def tune(
    index: OpenIndex,
    adapter: str | Path,
    options: TargetOptions,
    *,
    by: str,
    min_per_label: int,
    plan: Plan | None,
    folds: int,
    test: Source | None,
    fields: Fields | None,
    format: Format | str,
    dialect: Dialect | None,
    runtime: RuntimeOptions,
    on_progress: OnProgress | None,
) -> Tuning:
    """Train an adapter, and measure neighbours before and after; see `Index.tune`."""
    from layerdex.indexer.models.adapters import import_peft

    target = _check_target(adapter)
    check_callbacks(on_progress=on_progress)
    store = index.store
    if store.settings.adapter is not None:
        raise OptionError("this index has an adapter already: tune an index of the model alone")
    layer = store.query(lambda snapshot: _tuned_layer(index, options, snapshot))
    import_peft()  # or fail before any work is done
    settings = index.encoder.settings  # has the folder where the model lies now
    _check_runtime(settings, runtime)
    task = LabelTask(by, min_per_label, test=test, fields=fields, format=format, dialect=dialect)
    test_set = None if test is None else task.read_test(store)
    layers = tuple(stored for stored in store.layers if stored <= layer)
    vectors = {} if test_set is None else QueryVectors(index, test_set.texts).encode(layers)

    def question(snapshot: Snapshot) -> tuple[TrainingSplit, Evaluation, Vectors]:
        table = labelled_table(snapshot, options.where, by, min_per_label)
        documents = snapshot.documents(table.rows.tolist())
        texts = [documents[row].text for row in table.rows.tolist()]
        split = make_training_split(table, texts, n_folds=folds, test=test_set)
        before = split.evaluate(snapshot.layer, vectors, layers)
        return split, before, split.label_means(snapshot.layer(layer))

    split, before, means = store.query(question)
    trainer = _make_trainer(settings, layer=layer, plan=plan or Plan(), runtime=runtime)
    trained = trainer.train(
        split.texts,
        split.codes,
        training=split.training,
        held_out=split.held_out,
        directions=means,
        judge=split.judge,
        on_progress=on_progress,
    )
    _write_folder(target, trainer)
    tuned = make_encoder(
        replace(settings.options(), adapter=str(target)),
        _measuring_runtime(settings, runtime),
        query_template=store.query_template,
        force_int8=True,  # what it costs in int8 is part of what is measured
    )
    return Tuning(
        adapter=target,
        layer=layer,
        trained=trained,
        n_training=len(split.training),
        n_held_out=len(split.held_out),
        n_left_out=split.n_left_out,
        is_test=test_set is not None,
        before=with_label_field(before, by),
        after=with_label_field(_measure_after(index, split, tuned, layers), by),
    )


def _check_runtime(settings: EncoderSettings, runtime: RuntimeOptions) -> None:
    """Raise, before any work, what making the tuned encoder of an index in int8 would raise."""
    choose_runtime(settings, runtime)
    if settings.quantization is None:
        return
    made = Calibration.of_new(settings.calibration)
    if made.identity != settings.quantization.identity:
        raise OptionError(
            "the tuned model would be quantised to int8 by another version of NNCF or Layerdex, or "
            "by other texts, than the index's, and could not be compared with it: make a new index"
        )


def _measuring_runtime(settings: EncoderSettings, runtime: RuntimeOptions) -> RuntimeOptions:
    if settings.quantization is None:
        return runtime
    return RuntimeOptions(dtype=Dtype.INT8)  # whatever the trainer runs on


def _measure_after(
    index: OpenIndex, split: TrainingSplit, encoder: Encoder, layers: tuple[int, ...]
) -> Evaluation:
    """Measure what an index temporary with ``encoder`` would answer."""
    codec = index.store.codec

    def encode(texts: list[str]) -> dict[int, Vectors]:
        encoded = encoder.encode(texts, layers).vectors
        return {n: as_stored(vectors, codec) for n, vectors in zip(layers, encoded, strict=True)}

    vectors = {} if split.test is None else encode(split.test.texts)
    return split.evaluate(split.sources(encode(split.texts)), vectors, layers)


def _tuned_layer(index: OpenIndex, options: TargetOptions, snapshot: Snapshot) -> int:
    space = options.space(index, snapshot)
    if space.layers == (0,):
        raise OptionError("layer 0 has no encoder blocks below it: choose a deeper one (--layer)")
    return space.layers[0]


def _check_target(adapter: str | Path) -> Path:
    target = expand_home(to_path(adapter, what="an adapter is a folder's path")).resolve()
    if target.exists():
        raise OptionError(f"{target} exists already: give the adapter a new folder")
    if not target.parent.is_dir():
        raise OptionError(f"there is no folder {target.parent} for the adapter")
    return check_unicode(target, what="the path of the adapter,")


def _make_trainer(
    settings: EncoderSettings, *, layer: int, plan: Plan, runtime: RuntimeOptions
) -> Trainer:
    from layerdex.indexer.models.model_folder import find_model
    from layerdex.indexer.training.trainer import Trainer

    folder = find_model(settings.model, revision=settings.revision)
    return Trainer(folder, settings, layer=layer, plan=plan, runtime=runtime)


def _write_folder(target: Path, trainer: Trainer) -> None:
    """Write the adapter's folder whole or not at all."""
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{name_start(target)}-"))
        trainer.write(temporary)
        temporary.chmod(0o755)  # mkdtemp makes it readable by its owner alone
        temporary.rename(target)
    except OSError as error:
        raise StorageError(f"cannot write the adapter {target}: {error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
