"""Models in int8: near to float32, cached, deterministic, and never mixed with exact ones."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex import EncoderOptions, Index, RuntimeOptions, TextFile
from layerdex.choices import Dtype, EngineName, LongText, Pooling
from layerdex.errors import IndexMismatchError, MissingPackageError, ModelError, OptionError
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engines.openvino import cache, quantized_graph, requests
from layerdex.indexer.engines.openvino import engine as openvino_engine
from layerdex.indexer.engines.openvino.cached_graph import CachedGraph
from layerdex.indexer.engines.openvino.library import import_openvino
from layerdex.indexer.engines.openvino.requests import can_run
from layerdex.indexer.models.compatibility import check_fingerprint
from layerdex.indexer.quantization import calibration, fidelity
from layerdex.indexer.training.plan import Plan
from layerdex.records import Encoded, Quantization
from layerdex.sklearn import LayerEmbedder
from tests.cli.runner import Cli
from tests.indexer.conftest import TinyModel
from tests.indexer.openvino.graphs import LAYERS, TEXTS, load
from tests.indexer.plain import cosines
from tests.storage.stored import layer_paths
from tests.tiny_models import sentence

if find_spec("nncf") is None:
    pytest.skip("NNCF is not installed", allow_module_level=True)

INT8 = RuntimeOptions(dtype=Dtype.INT8)
NEAR = 0.98


@pytest.fixture(autouse=True)
def _fast_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any CPU computes in int8; only some are faster in it."""
    monkeypatch.setattr(calibration, "cpu_has_int8", lambda: True)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of 200 texts of the tiny models' words: 60 calibrate, 140 check."""
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    lines = [sentence(1 + i % 37, seed=i) for i in range(200)]
    file.write_text("\n".join(dict.fromkeys(lines)))
    return str(file)


@pytest.fixture(autouse=True)
def _few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "N_CALIBRATING", 60)


def options(model: Path, texts: str | None, **changes: object) -> EncoderOptions:
    return EncoderOptions(model=str(model), calibration=texts, **changes)  # type: ignore[arg-type]


def quantized(model: Path, texts: str | None, **changes: object) -> TransformerEncoder:
    return TransformerEncoder(options(model, texts, **changes), runtime=INT8)


def test_every_layer_is_near_to_float32(tiny_model: TinyModel, texts: str) -> None:
    exact = load(tiny_model("bert")).encode(TEXTS, LAYERS).vectors
    encoder = quantized(tiny_model("bert"), texts)
    vectors = encoder.encode(TEXTS, LAYERS).vectors

    near = cosines(vectors, exact)
    assert near[0].min() > 0.9999  # embeddings are looked up
    assert NEAR < near[1:].min() < 0.99999  # and the rest is not the exact graph

    made = encoder.settings.quantization
    assert made is not None
    assert len(made.mean_cosines) == len(LAYERS)
    assert made.n_calibrating == 60
    assert NEAR < min(made.lowest_cosines) <= min(made.mean_cosines) < 0.99999
    assert encoder.settings.calibration == TextFile(texts)


def test_fewer_layers_and_other_batches_give_the_same_vectors(
    tiny_model: TinyModel, texts: str
) -> None:
    encoder = quantized(tiny_model("bert"), texts)
    vectors = encoder.encode(TEXTS, LAYERS).vectors
    assert cosines(encoder.encode(TEXTS, [2]).vectors, vectors[2:3]).min() > 0.9999
    alone = np.concatenate([encoder.encode([text], LAYERS).vectors for text in TEXTS], axis=1)
    assert cosines(alone, vectors).min() > 0.999


@pytest.mark.soak
def test_a_template_its_mask_and_chunks_go_as_in_float32(tiny_model: TinyModel, texts: str) -> None:
    template = "{text} is a [MASK]"
    changes = {"pooling": Pooling.MASK, "template": template, "long": LongText.CHUNK}
    exact = TransformerEncoder(
        EncoderOptions(model=str(tiny_model("bert")), **changes),  # type: ignore[arg-type]
        runtime=RuntimeOptions(engine=EngineName.OPENVINO, dtype=Dtype.FLOAT32),
    )
    encoder = quantized(tiny_model("bert"), texts, **changes)
    long = [*TEXTS, sentence(100, seed=5)]
    near = cosines(encoder.encode(long, LAYERS).vectors, exact.encode(long, LAYERS).vectors)
    assert near.min() > NEAR
    assert encoder.with_template(template).settings.fingerprint == encoder.settings.fingerprint


@pytest.mark.soak
def test_the_same_texts_give_the_same_bytes(
    tiny_model: TinyModel,
    texts: str,
    converted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = quantized(tiny_model("bert"), texts)
    monkeypatch.setenv("XDG_CACHE_HOME", str(shutil.copytree(converted, tmp_path / "other")))
    shutil.rmtree(graph_of(quantized(tiny_model("bert"), texts)).folder)
    again = quantized(tiny_model("bert"), texts)
    assert again.settings == first.settings
    assert weights(again) == weights(first)
    assert load(tiny_model("bert")).settings.fingerprint != first.settings.fingerprint


def test_weights_are_rounded_by_their_inputs_and_attention_is_left_alone(
    tiny_model: TinyModel,
    texts: str,
    converted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(shutil.copytree(converted, tmp_path / "other")))
    shutil.rmtree(graph_of(quantized(tiny_model("bert"), texts)).folder)
    caplog.clear()
    with caplog.at_level("INFO"):
        encoder = quantized(tiny_model("bert"), texts)
    # Six in each block, without the one that stays exact.
    n_layers = 6 * (len(LAYERS) - 1) - 1
    assert f"the weights of {n_layers} linear layers are rounded by their inputs" in caplog.text
    nodes = import_openvino().Core().read_model(graph_of(encoder).path).get_ordered_ops()
    kinds = [node.get_type_name() for node in nodes]
    # The inputs of query, key and value are one.
    assert kinds.count("FakeQuantize") == 4 * (len(LAYERS) - 1) - 1


def weights(encoder: TransformerEncoder) -> bytes:
    return (graph_of(encoder).folder / "graph.bin").read_bytes()


def graph_of(encoder: TransformerEncoder) -> CachedGraph:
    assert isinstance(encoder.engine, openvino_engine.OpenVinoEngine)
    return encoder.engine._requests.graph


@pytest.mark.soak
def test_an_index_answers_from_the_cache_without_nncf_or_the_texts(
    tiny_model: TinyModel, texts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = str(shutil.copy(texts, tmp_path / "own.txt"))
    index = Index.create(tmp_path / "index", model=options(tiny_model("bert"), own), runtime=INT8)
    index.add([{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
    Path(own).unlink()
    monkeypatch.setattr(calibration, "_installed_quantizer", lambda: None)

    for runtime in (None, INT8):
        found = Index.open(tmp_path / "index", runtime=runtime).search(TEXTS[2], k=1)
        assert found[0].hits[0].id == "2"
    for dtype in (Dtype.FLOAT32, Dtype.BFLOAT16):
        with pytest.raises(IndexMismatchError, match="made in int8"):
            Index.open(tmp_path / "index", runtime=RuntimeOptions(dtype=dtype))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    with pytest.raises(ModelError, match=r"was made by NNCF .*, and here is none; pip install"):
        Index.open(tmp_path / "index").search(TEXTS[2])
    monkeypatch.setattr(calibration, "_installed_quantizer", lambda: version("nncf"))
    with pytest.raises(ModelError, match=r"cannot be read .*own.txt.*; name their file with --cal"):
        Index.open(tmp_path / "index").search(TEXTS[2])
    (tmp_path / "other.txt").write_text("\n".join(f"text {i}" for i in range(60)))
    with pytest.raises(IndexMismatchError, match=r"own.txt\) than those of .*other.txt: leave out"):
        Index.open(tmp_path / "index", calibration=str(tmp_path / "other.txt")).search(TEXTS[2])
    index.backup(tmp_path / "backup")
    Index.open(tmp_path / "backup").restore(tmp_path / "restored")
    restored = Index.open(tmp_path / "restored", calibration=texts)  # and quantised again
    assert restored.search(TEXTS[2], k=1)[0].hits[0].id == "2"
    assert restored.encoder.settings.fingerprint == index.settings.fingerprint


def test_an_exact_index_refuses_int8(tiny_model: TinyModel, tmp_path: Path) -> None:
    index = Index.create(
        tmp_path / "index",
        model=str(tiny_model("bert")),
        runtime=RuntimeOptions(dtype=Dtype.FLOAT32, engine=EngineName.TORCH),
    )
    index.add([{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
    with pytest.raises(IndexMismatchError, match="not made in int8"):
        Index.open(tmp_path / "index", runtime=INT8)


def test_what_is_too_far_is_refused_unless_forced(
    tiny_model: TinyModel,
    texts: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(fidelity, "LEAST_MEAN_COSINE", 1.0)
    (tmp_path / "docs.txt").write_text("\n".join(TEXTS))
    files = (tmp_path / "index", tmp_path / "docs.txt", "--calibrate", texts)
    words = ("index", *files, "--dtype", "int8", "--model", tiny_model("bert"))
    refused = Cli().error(*words)
    assert "too far from float32 in int8: mean cosine" in refused
    assert not (tmp_path / "index").exists()
    forced = Cli().ok(*words, "--force-int8")
    assert "too far from float32 in int8, as was forced" in caplog.text
    assert (caplog.text + forced.stderr).count("mean cosine to float32") == 1
    Cli().ok(*words, "--force-int8")  # as after an interruption
    exact = ("index", tmp_path / "exact", tmp_path / "docs.txt", "--model", tiny_model("bert"))
    assert "add --dtype int8" in Cli().error(*exact, "--force-int8")
    own = quantized(tiny_model("bert"), texts)
    with pytest.raises(OptionError, match="force_int8 is for a model that Layerdex loads"):
        Index.create(tmp_path / "own", model=own, force_int8=True)


def test_int8_is_openvinos_alone(tiny_model: TinyModel, texts: str) -> None:
    for runtime, reason in (
        (RuntimeOptions(dtype=Dtype.INT8, engine=EngineName.TORCH), "leave out --engine torch"),
        (
            RuntimeOptions(dtype=Dtype.INT8, device="cuda:1"),
            "on the CPU: leave out --device cuda:1",
        ),
    ):
        with pytest.raises(OptionError, match=reason):
            TransformerEncoder(options(tiny_model("bert"), texts), runtime=runtime)
    assert load(tiny_model("bert"), dtype=Dtype.AUTO).engine.quantization is None


def test_a_forked_child_says_that_it_cannot_run(tiny_model: TinyModel, texts: str) -> None:
    encoder = quantized(tiny_model("bert"), texts)
    encoder.encode(TEXTS, LAYERS)
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            assert not can_run()
            encoder.encode(TEXTS, LAYERS)
            os.write(write, b"an answer")
        except ModelError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    said = os.read(read, 1_000)
    assert said.startswith(
        b"OpenVINO cannot run in a process forked after it has run; fork earlier"
    )
    os.close(read)


@pytest.mark.soak
def test_a_damaged_graph_is_quantised_again(
    tiny_model: TinyModel, texts: str, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = quantized(tiny_model("bert"), texts)
    whole = weights(encoder)
    file = graph_of(encoder).folder / "graph.bin"
    file.write_bytes(whole[:-1] + b"?")
    assert weights(quantized(tiny_model("bert"), texts)) == whole
    assert "is damaged" in caplog.text


def test_a_cpu_without_instructions_for_int8_gives_the_same_vectors(
    tiny_model: TinyModel, texts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = quantized(tiny_model("bert"), texts).encode(TEXTS, LAYERS).vectors
    monkeypatch.setattr(requests, "cpu_has_int8", lambda: False)
    imitated = quantized(tiny_model("bert"), texts)
    assert cosines(imitated.encode(TEXTS, LAYERS).vectors, expected).min() > 0.999


def test_a_damaged_layer_file_is_rebuilt_in_int8(
    tiny_model: TinyModel, texts: str, tmp_path: Path
) -> None:
    model = options(tiny_model("bert"), texts)
    index = Index.create(tmp_path / "index", model=model, runtime=INT8)
    index.add([{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
    *_, file = layer_paths(tmp_path / "index")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    Cli().ok("repair", tmp_path / "index")
    assert file.read_bytes() == whole


_KILLED = """
import os, signal, sys
from layerdex import EncoderOptions, RuntimeOptions
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engines.openvino import quantized_graph
from layerdex.indexer.engines.openvino.library import import_openvino
from layerdex.indexer.quantization import calibration

def write_and_die(folder, *arguments, **options):
    write_graph(folder, *arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

write_graph, quantized_graph.write_graph = quantized_graph.write_graph, write_and_die
quantized_graph._quantize = lambda graph, _: import_openvino().Core().read_model(graph.path)
calibration.cpu_has_int8 = lambda: True
calibration.N_CALIBRATING = 60
TransformerEncoder(
    EncoderOptions(model=sys.argv[1], calibration=sys.argv[2]), runtime=RuntimeOptions(dtype="int8")
)
"""


@pytest.fixture
def other_texts(texts: str, tmp_path: Path) -> Path:
    """Texts by which nothing has been quantised yet."""
    other = tmp_path / "other.txt"
    other.write_text("\n".join(Path(texts).read_text().splitlines()[::-1]))
    return other


@pytest.fixture
def unquantized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the long part of a conversion, where only its place is tested."""
    monkeypatch.setattr(
        quantized_graph,
        "_quantize",
        lambda graph, _: import_openvino().Core().read_model(graph.path),
    )


@pytest.mark.usefixtures("unquantized")
def test_a_process_killed_while_quantising_leaves_nothing_that_is_used(
    tiny_model: TinyModel, own_copy: Path, other_texts: Path
) -> None:
    model, before = tiny_model("bert"), {*own_copy.parent.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, model, other_texts], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (leftover,) = {*own_copy.parent.iterdir()} - before
    assert leftover.name.startswith(".new-")
    assert (leftover / "graph.xml").exists()

    made = graph_of(quantized(model, str(other_texts)))
    assert {*own_copy.parent.iterdir()} - before == {leftover, made.folder}
    assert made.quantization is not None


@pytest.mark.usefixtures("unquantized")
def test_without_a_cache_a_model_is_quantised_for_this_process(
    tiny_model: TinyModel,
    own_copy: Path,
    other_texts: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(folder: Path) -> None:
        if folder == own_copy.parent:
            raise OSError(errno.EROFS, "Read-only file system")

    before = {*own_copy.parent.iterdir()}
    monkeypatch.setattr(cache, "make_cache_folder", refuse)
    encoder = quantized(tiny_model("bert"), str(other_texts))
    assert "no cache can be used: Read-only file system" in caplog.text
    assert encoder.settings.quantization is not None
    assert np.isfinite(encoder.encode(TEXTS, LAYERS).vectors).all()
    assert {*own_copy.parent.iterdir()} == before


def test_an_estimator_encodes_in_int8(tiny_model: TinyModel, texts: str) -> None:
    embedder = LayerEmbedder(str(tiny_model("bert")), dtype="int8", calibration=texts)
    expected = quantized(tiny_model("bert"), texts).encode(TEXTS, [4]).vectors[0]
    assert cosines(embedder.fit_transform(TEXTS), expected).min() > 0.999


@pytest.mark.soak
@pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")
def test_an_adapter_is_measured_in_int8_too(
    tiny_model: TinyModel, texts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = options(tiny_model("bert"), texts)
    index = Index.create(tmp_path / "index", model=model, runtime=INT8)
    index.add(
        [{"id": str(i), "text": sentence(6, seed=i), "label": "ab"[i % 2]} for i in range(40)]
    )
    measured: list[Quantization | None] = []
    encode = TransformerEncoder.encode

    def note(encoder: TransformerEncoder, *words: Any, **options: Any) -> Encoded:
        measured.append(encoder.settings.quantization)
        return encode(encoder, *words, **options)

    monkeypatch.setattr(TransformerEncoder, "encode", note)
    tuned = index.tune(tmp_path / "adapter", layer=2, plan=Plan(rank=2, n_epochs=1), folds=4)
    assert tuned.after.n == tuned.before.n
    assert measured
    assert all(made is not None for made in measured)

    adapted = replace(model, adapter=str(tmp_path / "adapter"))
    own = Index.create(tmp_path / "own", model=adapted, runtime=INT8, force_int8=True)
    own.add([{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
    assert own.settings.fingerprint != index.settings.fingerprint
    assert Index.open(tmp_path / "own").search(TEXTS[2], k=1)[0].hits[0].id == "2"

    Path(tmp_path / "gone").mkdir()
    monkeypatch.setattr(calibration, "_installed_quantizer", lambda: None)
    with pytest.raises(MissingPackageError):
        index.tune(tmp_path / "gone" / "adapter", layer=2, folds=4)
    assert not any((tmp_path / "gone").iterdir())


def test_an_exact_encoder_is_not_tuned_or_compared_in_int8(
    tiny_model: TinyModel, texts: str, tmp_path: Path
) -> None:
    documents = [{"id": str(i), "text": text, "label": "a"} for i, text in enumerate(TEXTS)]
    exact = Index.create(tmp_path / "exact", model=str(tiny_model("bert")))
    exact.add(documents)
    with pytest.raises(IndexMismatchError, match="not made in int8"):
        exact.tune(tmp_path / "adapter", layer=2, runtime=INT8)
    model = options(tiny_model("bert"), texts)
    other = Index.create(tmp_path / "other", model=model, runtime=INT8)
    other.add(documents)
    with pytest.raises(IndexMismatchError, match="made with an exact encoder, not in int8"):
        check_fingerprint(other.encoder.settings, exact.encoder.settings)


def test_the_command_line_says_how_near_it_is(
    tiny_model: TinyModel, texts: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cli = Cli()
    (tmp_path / "docs.txt").write_text("\n".join(TEXTS))
    index, source = str(tmp_path / "index"), str(tmp_path / "docs.txt")
    model = ("--model", str(tiny_model("bert")))
    made = cli.ok("index", index, source, *model, "--dtype", "int8", "--calibrate", texts)
    assert made.stderr.count("in int8: mean cosine to float32 0.9") == 1
    assert not caplog.records  # nothing is wrong

    again = cli.ok("index", index, source, "--calibrate", texts)
    assert "int8" not in again.stderr
    info = cli.json("info", index)
    assert info["quantization"]["n_calibrating"] == 60
    assert info["calibration_file"] == texts
    assert "by NNCF" in cli("info", index).stdout
    assert "made in int8" in cli.error("search", index, TEXTS[0], "--dtype", "float32")


def test_calibrating_texts_are_read_as_the_source(
    tiny_model: TinyModel, texts: str, tmp_path: Path
) -> None:
    cli = Cli()
    rows = "".join(f"{text};x\n" for text in Path(texts).read_text().splitlines())
    table = tmp_path / "texts.csv"
    table.write_text(f"body;other\n{rows};blank\n", encoding="cp1252")
    index, read = tmp_path / "index", ("--delimiter", ";", "--encoding", "cp1252")
    made = ("index", index, table, "--model", tiny_model("bert"), "--dtype", "int8", *read)
    assert "--text-field" in cli.error(*made, "--calibrate", table)
    assert not index.exists()
    cli.ok(*made, "--calibrate", table, "--text-field", "body")
    same = quantized(tiny_model("bert"), texts).settings  # the same texts
    assert Index.open(index).settings.quantization == same.quantization

    moved = table.rename(tmp_path / "moved.csv")
    cli.ok("index", index, moved, *read, "--calibrate", moved)
    cli.ok("search", index, TEXTS[0], "--calibrate", moved)
    moved.write_text(moved.read_text().replace(";x", ";y"))
    cli.ok("search", index, TEXTS[0], "--calibrate", moved)  # of the other field
    lines = moved.read_text().splitlines(keepends=True)
    moved.write_text("".join(lines[:1] + lines[2:]))
    for words in (("search", index, TEXTS[0]), ("index", index, moved, *read)):
        assert "leave out --calibrate" in cli.error(*words, "--calibrate", moved)


@pytest.mark.parametrize("dtype", ["auto", "int8"])
def test_an_exact_index_has_no_calibrating_texts(
    tiny_model: TinyModel, texts: str, tmp_path: Path, dtype: str
) -> None:
    (tmp_path / "docs.txt").write_text("\n".join(TEXTS))
    words = ("index", tmp_path / "index", tmp_path / "docs.txt", "--model", tiny_model("bert"))
    Cli().ok(*words)
    refused = Cli().error(*words, "--calibrate", texts, "--dtype", dtype)
    assert "was not made in int8" in refused
