"""Rounding the weights of a quantised graph so that what one loses the others make up for.

This is GPTQ (Frantar and others, ICLR 2023) in 8 bits, on NNCF's own scales: the graph keeps its
form and its speed. Nearest whole numbers lose most of what int8 loses, as SmoothQuant moves the
activations' outliers into the weights and a row of weights has one scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import Dtype
from layerdex.indexer.engines.openvino.library import import_openvino
from layerdex.indexer.engines.openvino.requests import compile_options, translate_errors

Array = NDArray[Any]

_LARGEST = 127
# As a share of the mean square of an input: keeps inputs that never vary from being inverted.
_DAMPING = 0.01
_COLUMNS = 128
# Matrices of all inputs' products; the texts are read again for those that do not fit.
_MAX_BYTES = 1 << 29
_N_TOKENS = 1_024


@dataclass(frozen=True, slots=True)
class _Product:
    """A linear layer in int8, and where its input, weights and bias are in the graph."""

    name: str
    quantizer: Any
    convert: Any
    scales: NDArray[np.float32]
    bias: Any

    @property
    def source(self) -> str:
        return str(self.quantizer.get_friendly_name())


@dataclass(slots=True)
class _Inputs:
    """What a linear layer takes in: sums over the tokens of all texts."""

    exact: Array
    rounded: Array
    products: Array
    n_tokens: int = 0

    @classmethod
    def of(cls, width: int) -> _Inputs:
        return cls(np.zeros(width), np.zeros(width), np.zeros((width, width), np.float32))

    def add(self, exact: Array, rounded: Array) -> None:
        """Add (n_tokens, width) inputs, before and after they are rounded."""
        self.exact += exact.sum(axis=0, dtype=np.float64)
        self.rounded += rounded.sum(axis=0, dtype=np.float64)
        self.products += rounded.T @ rounded
        self.n_tokens += len(exact)


def round_weights(quantized: Any, exact: Any, inputs: Sequence[dict[str, Any]]) -> int:
    """Replace the weights and biases of a quantised graph, and return of how many linear layers.

    ``exact`` is the graph in float32 that it was made of, whose layers have the same names.
    """
    nodes = {node.get_friendly_name(): node for node in exact.get_ordered_ops()}
    n_done = 0
    for group in _groups([found for found in _products(quantized) if found.name in nodes]):
        sources = {product.source: product for product in group}
        collected = _collect(exact, nodes, list(sources.values()), inputs)
        for product in group:
            _replace(product, nodes[product.name], collected[product.source])
            n_done += 1
    quantized.validate_nodes_and_infer_types()
    return n_done


def round_rows(weights: Array, products: Array, scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return weights (n, width) as whole numbers times ``scales`` (n,), without the scales.

    ``products`` (width, width) is the mean product of each two inputs. Columns are rounded one
    after another, and those to come are moved by what the inputs' correlation can make up for.
    """
    width = weights.shape[1]
    order = np.argsort(-np.diag(products), kind="stable")  # the largest inputs first
    damped = products[np.ix_(order, order)].astype(np.float64)
    damped[np.diag_indices(width)] += _DAMPING * np.diag(damped).mean()
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    left = weights[:, order].astype(np.float32)
    rounded = np.empty_like(left)
    for start in range(0, width, _COLUMNS):
        stop = min(start + _COLUMNS, width)
        losses = np.empty((len(left), stop - start), np.float32)
        for i in range(start, stop):
            rounded[:, i] = np.clip(np.rint(left[:, i] / scales), -_LARGEST, _LARGEST)
            loss = (left[:, i] - rounded[:, i] * scales) / factor[i, i]
            left[:, i + 1 : stop] -= np.outer(loss, factor[i, i + 1 : stop])
            losses[:, i - start] = loss
        left[:, stop:] -= losses @ factor[start:stop, stop:]
    result = np.empty_like(rounded)
    result[:, order] = rounded
    return result


def _products(quantized: Any) -> Iterator[_Product]:
    """Yield the linear layers as NNCF writes them; others stay as they are."""
    for node in quantized.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        quantizer, weights = (node.input_value(port).get_node() for port in (0, 1))
        users = list(node.output(0).get_target_inputs())
        if (
            quantizer.get_type_name() != "FakeQuantize"
            or weights.get_type_name() != "Multiply"
            or not node.get_attributes()["transpose_b"]
            or len(users) != 1
        ):
            continue
        convert, scales = (weights.input_value(port).get_node() for port in (0, 1))
        bias, used = users[0].get_node(), 1 - users[0].get_index()
        if (
            convert.get_type_name() == "Convert"
            and convert.input_value(0).get_node().get_type_name() == "Constant"
            and scales.get_type_name() == "Constant"
            and bias.get_type_name() == "Add"
            and bias.input_value(used).get_node().get_type_name() == "Constant"
        ):
            rows = np.asarray(scales.data, np.float32).ravel()
            name = node.get_friendly_name()
            yield _Product(name, quantizer, convert, rows, bias.input(used))


def _groups(products: Sequence[_Product]) -> Iterator[list[_Product]]:
    """Yield the products in runs whose inputs' matrices fit in the memory together."""
    group: list[_Product] = []
    widths: dict[str, int] = {}
    for product in products:
        width = product.convert.get_output_shape(0)[1]
        if product.source not in widths:
            if group and 4 * sum(w * w for w in (*widths.values(), width)) > _MAX_BYTES:
                yield group
                group, widths = [], {}
            widths[product.source] = width
        group.append(product)
    if group:
        yield group


def _collect(
    exact: Any,
    nodes: dict[str, Any],
    products: Sequence[_Product],
    inputs: Sequence[dict[str, Any]],
) -> dict[str, _Inputs]:
    """Return what layers take in on the texts, by the name of the quantiser."""
    openvino = import_openvino()
    outputs = [nodes[product.name].input_value(0) for product in products]
    with translate_errors():
        model = openvino.Model(outputs, exact.get_parameters(), "inputs")
        options = compile_options(Dtype.FLOAT32, n_streams=1)
        request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    collected = {
        product.source: _Inputs.of(product.convert.get_output_shape(0)[1]) for product in products
    }
    waiting: list[list[Array]] = []
    for i, batch in enumerate(inputs):
        with translate_errors():
            request.infer(batch)
        waiting.append(
            [tensor.data.reshape(-1, tensor.shape[-1]).copy() for tensor in request.output_tensors]
        )
        if i + 1 == len(inputs) or sum(len(each[0]) for each in waiting) > _N_TOKENS:
            for product, states in zip(products, zip(*waiting, strict=True), strict=True):
                smoothed = np.concatenate(states) / _smoothing(product)
                collected[product.source].add(smoothed, _round_inputs(product, smoothed))
            waiting = []
    return collected


def _smoothing(product: _Product) -> Array | np.float32:
    """Return what SmoothQuant divides each input by."""
    node = product.quantizer.input_value(0).get_node()
    if node.get_type_name() == "Multiply":
        factors = node.input_value(1).get_node()
        if "nncf_smooth_quant" in node.get_friendly_name():
            return 1 / np.asarray(factors.data, np.float32).ravel()
    return np.float32(1)


def _round_inputs(product: _Product, states: Array) -> Array:
    """Do what FakeQuantize does."""
    low, high = (
        np.asarray(product.quantizer.input_value(port).get_node().data, np.float32).ravel()
        for port in (1, 2)
    )
    step = (high - low) / np.float32(product.quantizer.get_levels() - 1)
    result: Array = np.rint((np.clip(states, low, high) - low) / step) * step + low
    return result


def _replace(product: _Product, exact: Any, inputs: _Inputs) -> None:
    weights = np.asarray(exact.input_value(1).get_node().data, np.float32) * _smoothing(product)
    mean_products = inputs.products / np.float32(inputs.n_tokens)
    rounded = round_rows(weights, mean_products, product.scales)
    _set_constant(product.convert.input(0), rounded.astype(np.int8))
    user = next(iter(exact.output(0).get_target_inputs()))
    bias = user.get_node().input_value(1 - user.get_index()).get_node().data
    shift = weights.astype(np.float64) @ inputs.exact
    shift -= (rounded * product.scales[:, np.newaxis]).astype(np.float64) @ inputs.rounded
    corrected = np.asarray(bias, np.float64) + shift / inputs.n_tokens
    _set_constant(product.bias, corrected.astype(np.float32))


def _set_constant(port: Any, values: Array) -> None:
    old = port.get_source_output().get_node()
    constant = import_openvino().opset13.constant(np.ascontiguousarray(values))
    constant.set_friendly_name(old.get_friendly_name())
    port.replace_source_output(constant.output(0))
