"""Quantising a converted model to int8 with NNCF, and measuring what that costs.

Weights and the inputs of the linear layers become int8, with SmoothQuant (Xiao and others, ICML
2023), a correction of the biases, and weights rounded as in `weight_rounding`; embeddings,
attention, norms and pooling keep their precision. So does one linear layer, see
`_first_of_activated`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from layerdex.choices import Dtype, Pooling
from layerdex.errors import MissingPackageError, ModelError
from layerdex.indexer.engines.openvino.cache import new_graph_folder
from layerdex.indexer.engines.openvino.cached_graph import CachedGraph, write_graph
from layerdex.indexer.engines.openvino.library import import_openvino
from layerdex.indexer.engines.openvino.requests import compile_options, run, translate_errors
from layerdex.indexer.engines.openvino.weight_rounding import round_weights
from layerdex.indexer.engines.protocol import Engine, ModelSpec, collect_vectors, make_batch
from layerdex.indexer.quantization.calibration import Calibration
from layerdex.indexer.quantization.fidelity import N_NEIGHBORS, measure_fidelity
from layerdex.indexer.text.batches import plan_batches
from layerdex.indexer.text.templates import MASK, PLAIN, TEXT
from layerdex.indexer.text.tokenizer import TextTokenizer, Tokens
from layerdex.records import Quantization

logger = logging.getLogger(__name__)

# Of longer texts, which would take most of the time, more tokens say little that is new.
_MAX_LENGTH = 256
_TOKEN_BUDGET = 1_024
# Of what is large in an input, the share that goes to the weights.
_SMOOTHING = 0.8
_ACTIVATIONS = ("Gelu", "Relu", "Swish", "Tanh", "HSwish", "Mish")


def quantize(
    exact: Engine, graph: CachedGraph, calibration: Calibration, *, pooling: Pooling, target: Path
) -> None:
    """Quantise the graph of the engine ``exact``, which computes in float32, into the cache.

    Raises `ModelError` where NNCF fails, `SourceError` where the texts cannot be read, or OSError
    if the cache cannot be written.
    """
    texts = calibration.texts()
    logger.info("quantising the model to int8, once for this machine: this takes up to minutes")
    spec = exact.spec
    calibrating = _tokenize(spec, texts.calibrating, pooling)
    checked = _tokenize(spec, texts.checked, pooling)
    if not calibrating.ids or len(checked.ids) <= N_NEIGHBORS:
        raise ModelError(
            "the tokenizer knows too few of the texts to quantise by: calibrate by others, with "
            "--calibrate, or leave out --dtype int8"
        )
    batches = [
        make_batch(checked, indices, pad_id=spec.tokenizer.pad_id)
        for indices in plan_batches(checked.lengths, token_budget=_TOKEN_BUDGET, pads=spec.pads)
    ]
    with new_graph_folder(target) as folder:
        quantized = _quantize(graph, [_alone(calibrating, i) for i in range(len(calibrating.ids))])
        layers = tuple(range(spec.depth + 1))
        of_exact = collect_vectors(exact.pool(batches, layers), spec, len(checked.ids))
        request = _request(quantized)
        of_quantized = collect_vectors(run([request], batches, layers), spec, len(checked.ids))
        fidelity = measure_fidelity(of_exact, of_quantized)
        _, probes = graph.reference()
        n_probes = sum(len(batch.indices) for batch in probes)
        method, version, digest = calibration.identity
        write_graph(
            folder,
            quantized,
            spec=spec,
            batches=probes,
            vectors=collect_vectors(run([request], probes, layers), spec, n_probes),
            quantization=Quantization(
                method=method,
                version=version,
                calibration=digest,
                n_calibrating=len(calibrating.ids),
                n_checked=len(checked.ids),
                mean_cosines=fidelity.mean_cosines,
                lowest_cosines=fidelity.lowest_cosines,
                overlaps=fidelity.overlaps,
            ),
        )


def _quantize(graph: CachedGraph, inputs: Sequence[dict[str, Any]]) -> Any:
    nncf = _import_nncf()
    core = import_openvino().Core()
    model = core.read_model(graph.path)
    try:
        with _quiet():
            quantized = nncf.quantize(
                model,
                nncf.Dataset(list(inputs)),
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(inputs),
                fast_bias_correction=True,
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=_SMOOTHING)
                ),
                # Looking embeddings up costs nothing, and layer 0 stays exact. Attention is
                # computed in bfloat16 in any case, so that rounding its inputs would only lose.
                ignored_scope=nncf.IgnoredScope(
                    names=_first_of_activated(model),
                    types=["Gather", "ScaledDotProductAttention"],
                    validate=False,
                ),
            )
        n_rounded = round_weights(quantized, core.read_model(graph.path), inputs)
        logger.info("the weights of %d linear layers are rounded by their inputs", n_rounded)
        return quantized
    except MemoryError:  # not the model's fault
        raise
    except Exception as error:  # of any kind
        logger.info("NNCF cannot quantise this model", exc_info=True)
        raise ModelError(
            f"NNCF cannot quantise this model ({type(error).__name__}: {error}): leave out "
            "--dtype int8"
        ) from error


def _first_of_activated(model: Any) -> list[str]:
    """Return the name of the first linear layer that takes an activation's output, if any.

    That is the second one of the first block's feed-forward network. A few of its inputs are many
    times larger than the others: in int8 it alone costs MiniLM half of all that is lost, and it is
    one of 36 products (`python -m benchmarks.int8`).
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul":
            source = node.input_value(0).get_node().get_type_name()
            if source in _ACTIVATIONS:
                return [node.get_friendly_name()]
    return []


def _import_nncf() -> Any:
    """Import NNCF with its telemetry disabled, and undo what the import does to logging."""
    import_openvino()
    name = "NNCF_CI"  # read once, at the import
    before = os.environ.get(name)
    logger_class = logging.getLoggerClass()
    os.environ[name] = "1"
    try:
        import nncf
    except Exception as error:  # of any kind, as versions clash
        raise MissingPackageError(
            f"int8 needs NNCF, which cannot be imported ({error}): pip install 'layerdex[int8]'"
        ) from error
    finally:
        logging.setLoggerClass(logger_class)
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide NNCF's progress bars, which are on rich's global console."""
    from rich import get_console

    console = get_console()
    was_quiet = console.quiet
    console.quiet = True
    try:
        yield
    finally:
        console.quiet = was_quiet


def _tokenize(spec: ModelSpec, texts: Sequence[str], pooling: Pooling) -> Tokens:
    needs_mask = pooling is Pooling.MASK
    tokenizer = TextTokenizer(
        spec.tokenizer,
        template=f"{TEXT} {MASK}" if needs_mask else PLAIN,
        max_length=min(spec.n_positions, _MAX_LENGTH),
        needs_mask=needs_mask,
    )
    tokens = tokenizer.tokenize(texts)
    known = [text for text, ids in zip(texts, tokens.ids, strict=True) if ids]
    return tokens if len(known) == len(texts) else tokenizer.tokenize(known)


def _alone(tokens: Tokens, i: int) -> dict[str, Any]:
    return make_batch(tokens, np.array([i]), pad_id=0).inputs()


def _request(model: Any) -> Any:
    options = compile_options(Dtype.INT8, n_streams=1)
    with translate_errors():
        return import_openvino().Core().compile_model(model, "CPU", options).create_infer_request()
