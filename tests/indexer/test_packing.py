"""Texts without padding, on the CPU: with attention text by text in place of the GPU's kernel."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerdex.indexer import hidden_states, packed_attention, packing, pooling
from layerdex.indexer import torch_engine as torch_engine_file
from layerdex.indexer.devices import Precision
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engine import Batch, EngineName, make_batch
from layerdex.indexer.models import find_model
from layerdex.indexer.packing import pack
from layerdex.indexer.replica import Replica, _has_kernel, collect
from layerdex.indexer.tokenizing import Tokens
from layerdex.indexer.torch_engine import TorchEngine
from layerdex.records import Pooling
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import calls_of, cosines, load_plain, torch_engine
from tests.tiny_models import DEPTH, FAMILIES, N_POSITIONS, save_tiny_model, sentence

CPU = torch.device("cpu")
PACKED = [name for name, family in FAMILIES.items() if family.packs]
UNPACKED = [name for name, family in FAMILIES.items() if not family.packs]
LAYERS = tuple(range(DEPTH + 1))
LENGTHS = [N_POSITIONS, 1, 17, 2, N_POSITIONS, 9]
PROBE = np.array([[2, 20, 31, 14, 55, 40, 3]])


def load_model(folder: Path, *, dtype: torch.dtype = torch.float32) -> Any:
    """Load a model as the engine does, whose attention is transformers' own choice."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()


def make_replica(
    model: Any, *, pool_by: Pooling = Pooling.MEAN, packs: bool | None = True
) -> Replica:
    return Replica(model, CPU, PROBE, pool_by, packs=packs)


def random_batch(lengths: Sequence[int], *, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(10, 60, size=length).tolist() for length in lengths]
    positions = rng.integers(0, lengths)
    tokens = Tokens(ids, np.zeros(len(ids), dtype=np.bool_), positions)
    return make_batch(tokens, np.arange(len(ids)), pad_id=0)


def vectors_of(
    replica: Replica, batch: Batch, layers: tuple[int, ...] = LAYERS
) -> NDArray[np.float32]:
    return np.array(collect(replica.submit(batch, layers)))


@pytest.mark.parametrize("pool_by", [Pooling.MEAN, Pooling.CLS, Pooling.MAX, Pooling.MASK])
@pytest.mark.parametrize("family", PACKED)
def test_packed_texts_have_the_vectors_of_padded_ones(
    family: str, pool_by: Pooling, tiny_model: TinyModel
) -> None:
    model = load_model(tiny_model(family))
    batch = random_batch(LENGTHS)
    expected = vectors_of(make_replica(model, pool_by=pool_by, packs=False), batch)
    replica = make_replica(model, pool_by=pool_by)

    found = vectors_of(replica, batch)

    assert replica.packs
    assert cosines(found, expected).min() >= 0.999999
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("family", PACKED)
def test_padding_is_not_computed(family: str, tiny_model: TinyModel) -> None:
    replica = make_replica(load_model(tiny_model(family)))

    with calls_of(FAMILIES[family].block) as calls:
        vectors_of(replica, random_batch(LENGTHS), (0, 2))

    assert [shape[:2] for shape in calls] == [(1, sum(LENGTHS))] * 2  # and no block above 2


@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_texts_bytes_do_not_depend_on_what_its_neighbours_say(
    family: str, dtype: torch.dtype, tiny_model: TinyModel
) -> None:
    replica = make_replica(load_model(tiny_model(family), dtype=dtype))
    batch, other = random_batch(LENGTHS), random_batch(LENGTHS, seed=1)
    other.ids[2] = batch.ids[2]

    found, expected = vectors_of(replica, other), vectors_of(replica, batch)

    assert replica.packs
    np.testing.assert_array_equal(found[:, 2], expected[:, 2])
    assert (found[:, [0, 1, 3, 4, 5]] != expected[:, [0, 1, 3, 4, 5]]).any(axis=2).all()


@pytest.mark.parametrize("family", UNPACKED)
def test_a_model_with_an_attention_of_its_own_stays_padded(
    family: str, tiny_model: TinyModel, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model(tiny_model(family))
    batch = random_batch(LENGTHS)
    expected = vectors_of(make_replica(model, packs=False), batch)

    with caplog.at_level(logging.DEBUG, "layerdex"):
        replica = make_replica(model)

    assert not replica.packs
    np.testing.assert_array_equal(vectors_of(replica, batch), expected)
    assert "MPNetModel is run on padded batches: its attention is 'eager'" in caplog.text


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cpu_packs_only_when_asked_to(family: str, tiny_model: TinyModel) -> None:
    model = load_model(tiny_model(family), dtype=torch.bfloat16)
    before = model.config._attn_implementation

    assert not make_replica(model, packs=None).packs
    assert model.config._attn_implementation == before


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cuda:1", torch.bfloat16, True),
        ("cuda", torch.float16, True),
        ("cuda", torch.float32, False),
        ("cpu", torch.bfloat16, False),
    ],
)
def test_there_is_a_kernel_on_a_gpu_in_half_precision(
    device: str, dtype: torch.dtype, expected: bool
) -> None:
    assert _has_kernel(torch.nn.Linear(2, 2, dtype=dtype), torch.device(device)) is expected


@pytest.mark.parametrize("family", PACKED)
def test_a_model_that_packs_still_takes_padded_batches(family: str, tiny_model: TinyModel) -> None:
    model = load_model(tiny_model(family))
    batch = random_batch(LENGTHS)
    inputs = {
        "input_ids": torch.from_numpy(batch.ids),
        "attention_mask": torch.from_numpy(batch.mask),
    }
    alone = {"input_ids": inputs["input_ids"][:1]}  # no mask, and longer than the local attention
    with torch.inference_mode():
        expected = [model(**one).last_hidden_state for one in (inputs, alone)]
        assert make_replica(model).packs
        found = [model(**one).last_hidden_state for one in (inputs, alone)]

    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def load_encoder(folder: Path, **options: Any) -> TransformerEncoder:
    return TransformerEncoder(
        str(folder),
        engine=EngineName.TORCH,
        device="cpu",
        precision=Precision.FLOAT32,
        token_budget=256,
        **options,
    )


@pytest.fixture
def packing_wanted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, engines try to pack on the CPU too."""

    def want() -> None:
        def make(*args: Any, **options: Any) -> Replica:
            return Replica(*args, **{**options, "packs": True})

        monkeypatch.setattr(torch_engine_file, "Replica", make)

    return want


@pytest.mark.parametrize("pool_by", [Pooling.MEAN, Pooling.CLS, Pooling.MAX, Pooling.MASK])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_engine_that_packs_gives_the_vectors_of_one_that_does_not(
    family: str,
    pool_by: Pooling,
    tiny_model: TinyModel,
    packing_wanted: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tiny_model(family)
    mask = "<mask>" if family in ("roberta", "xlm-roberta", "mpnet") else "[MASK]"
    template = f"{{text}} {mask}" if pool_by is Pooling.MASK else "{text}"
    texts = [sentence(1 + i % 37, seed=i) for i in range(90)]
    padded = load_encoder(folder, pooling=pool_by, template=template)
    packing_wanted()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)  # workers at once
    packed = load_encoder(folder, pooling=pool_by, template=template)
    monkeypatch.undo()
    torch.set_num_threads(1)

    assert torch_engine(packed).packs is (family in PACKED)
    assert not torch_engine(padded).packs
    for layers in (LAYERS, (0,), (1, 3)):
        found, expected = (one.encode(texts, layers).vectors for one in (packed, padded))
        assert cosines(found, expected).min() >= 0.999999
        if family in UNPACKED:
            np.testing.assert_array_equal(found, expected)


def test_every_device_packs(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [random_batch(LENGTHS, seed=seed) for seed in range(6)]

    def run(*, packs: bool) -> tuple[list[bool], list[Any]]:
        engine = TorchEngine(
            find_model(str(tiny_model("bert"))),
            pooling=Pooling.MEAN,
            device="cpu",
            precision=Precision.FLOAT32,
            packs=packs,
        )
        vectors = [np.array(of_batch) for _, of_batch in engine.pool(batches, LAYERS)]
        return [replica.packs for replica in engine._replicas], vectors

    _, expected = run(packs=True)
    monkeypatch.setattr(torch_engine_file, "choose_devices", lambda _name: (CPU, CPU, CPU))

    assert run(packs=False)[0] == [False] * 3
    which, found = run(packs=True)
    assert which == [True] * 3
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_model_whose_blocks_are_not_found_packs_too(
    family: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden_states, "find_blocks", lambda _model: [])
    model = load_model(tiny_model(family))
    batch = random_batch(LENGTHS)
    expected = vectors_of(make_replica(model, packs=False), batch, (0, 2))
    replica = make_replica(model)

    assert replica.packs
    assert not replica.states.is_hooked
    np.testing.assert_allclose(vectors_of(replica, batch, (0, 2)), expected, atol=2e-6)


@pytest.mark.parametrize("local_attention", [2, 8, 24, 2 * N_POSITIONS])
def test_a_sliding_window_is_honoured(local_attention: int, tmp_path: Path) -> None:
    folder = save_tiny_model("modernbert", tmp_path, local_attention=local_attention)
    batch = random_batch(LENGTHS)
    replica = make_replica(load_model(folder))
    eager = make_replica(load_plain(folder), packs=False)

    assert replica.packs
    np.testing.assert_allclose(vectors_of(replica, batch), vectors_of(eager, batch), atol=5e-6)


def test_a_longer_window_is_seen_when_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in ModernBERT itself: 64 tokens to either side.
    folder = save_tiny_model(
        "modernbert", tmp_path, local_attention=128, max_position_embeddings=512
    )
    forget = without_argument(packed_attention._attend_text_by_text, "window")
    assert make_replica(load_model(folder)).packs
    monkeypatch.setattr(packed_attention, "_attend_text_by_text", forget)

    assert not make_replica(load_model(folder)).packs


def without_argument(attend: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    return lambda *args, **kwargs: attend(*args, **{**kwargs, name: None})


def see_each_other(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    whole = {**kwargs, "offsets": torch.tensor([0, len(query)])}
    return _text_by_text(query, key, value, **whole)


def see_the_next(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    """Give each text a little of the token behind it, too little for any tolerance."""
    attended = _text_by_text(query, key, value, **kwargs)
    for stop in kwargs["offsets"].tolist()[1:-1]:
        attended[stop - 1] += 1e-7 * value[stop]
    return attended


def see_the_last(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    attended = _text_by_text(query, key, value, **kwargs)
    for start in kwargs["offsets"].tolist()[1:-1]:
        attended[start] += 1e-7 * value[start - 1]
    return attended


def give_no_numbers(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    return torch.full_like(query, torch.nan)


def fail(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    raise RuntimeError("no kernel image is available for execution on the device")


def run_out_of_memory(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory")


_text_by_text = packed_attention._attend_text_by_text
BROKEN = {
    "texts see each other": see_each_other,
    "texts see the next one's first token": see_the_next,
    "texts see the last one's last token": see_the_last,
    "other scores": without_argument(
        lambda query, *rest, **kwargs: _text_by_text(query * 1.5, *rest, **kwargs), "scale"
    ),
    "not a number": give_no_numbers,
    "no kernel": fail,
    "no memory": run_out_of_memory,
}


def assert_stays_as_it_was(model: Any) -> None:
    batch = random_batch(LENGTHS)
    expected = vectors_of(make_replica(model, packs=False), batch)
    before = model.config.to_dict()

    replica = make_replica(model)

    assert not replica.packs
    assert model.config._attn_implementation == "sdpa"
    assert model.config.to_dict() == before
    np.testing.assert_array_equal(vectors_of(replica, batch), expected)


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_broken_attention_is_noticed_when_the_model_is_loaded(
    family: str, how: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_attention, "_attend_text_by_text", BROKEN[how])

    assert_stays_as_it_was(load_model(tiny_model(family)))


def test_a_fault_at_tokens_that_no_vector_shows_is_noticed(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = itertools.cycle(range(1, DEPTH + 1))

    def turn_last_token(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
        attended = _text_by_text(query, key, value, **kwargs)
        if next(blocks) == DEPTH:
            attended[kwargs["offsets"][1:].long() - 1] *= -1
        return attended

    monkeypatch.setattr(packed_attention, "_attend_text_by_text", turn_last_token)

    assert not make_replica(load_model(tiny_model("bert")), pool_by=Pooling.CLS).packs


@pytest.mark.parametrize("family", PACKED)
def test_positions_that_run_on_across_texts_are_noticed(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_on(ids: Any, mask: Any, *, first: int) -> packing.PackedTexts:
        texts = pack(ids, mask, first=first)
        places = np.arange(texts.ids.size)[None] + first
        return packing.PackedTexts(texts.ids, places, texts.offsets, texts.longest)

    monkeypatch.setattr(packing, "pack", run_on)
    monkeypatch.setattr(packing, "n_positions_of", lambda _model: 30)
    model = load_model(save_tiny_model(family, tmp_path, max_position_embeddings=100))
    if family == "modernbert":  # rotary: only distances count, and these are the same
        assert make_replica(model).packs
    else:
        assert_stays_as_it_was(model)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_positions_that_count_from_0_are_noticed_in_the_roberta_family(
    family: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "first_position", lambda _model: 0)

    assert_stays_as_it_was(load_model(tiny_model(family)))


@pytest.mark.parametrize("pool_by", [Pooling.MEAN, Pooling.CLS, Pooling.MAX, Pooling.MASK])
def test_wrong_pooling_is_noticed(
    pool_by: Pooling, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pool_neighbours(states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return pooling.pool_packed(states.roll(-1, 1), *args, **kwargs)

    monkeypatch.setattr(packing, "pool_packed", pool_neighbours)

    assert not make_replica(load_model(tiny_model("bert")), pool_by=pool_by).packs


def test_a_model_that_takes_no_position_ids_stays_padded(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model("bert"))
    forward = model.forward

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if "position_ids" in kwargs:
            raise TypeError("forward() got an unexpected keyword argument 'position_ids'")
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", refuse)

    assert_stays_as_it_was(model)


def test_a_model_that_keeps_the_offsets_to_itself_stays_padded(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model("bert"))
    forward = model.forward

    def drop(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **{k: v for k, v in kwargs.items() if "_len" not in k})

    monkeypatch.setattr(model, "forward", drop)

    assert_stays_as_it_was(model)


def test_an_attention_that_was_chosen_otherwise_is_left_alone(tiny_model: TinyModel) -> None:
    model = load_plain(tiny_model("bert"))

    assert not make_replica(model).packs
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("n_tokens", [60, 41])
@pytest.mark.parametrize("pool_by", [Pooling.MEAN, Pooling.MASK])
def test_packed_batches_are_halved_when_memory_runs_out(
    pool_by: Pooling, n_tokens: int, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = make_replica(load_model(tiny_model("bert")), pool_by=pool_by)
    batch = random_batch([30, 30, 31, 33, 12, 35, 40, 38])
    expected = vectors_of(replica, batch)
    run = replica.states.run
    sizes: list[int] = []

    def run_small(inputs: dict[str, Tensor], *args: Any) -> None:
        if inputs["input_ids"].numel() > n_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert inputs["input_ids"].shape[0] == 1
        sizes.append(inputs["input_ids"].numel())
        run(inputs, *args)

    monkeypatch.setattr(replica.states, "run", run_small)

    found = vectors_of(replica, batch)

    assert len(sizes) > 1
    assert sum(sizes) == batch.mask.sum()
    assert cosines(found, expected).min() >= 0.999999


def test_a_batch_with_a_text_of_no_tokens_is_padded(tiny_model: TinyModel) -> None:
    model = load_model(tiny_model("bert"))
    batch = random_batch([5, 7])
    batch.mask[0] = 0
    expected = vectors_of(make_replica(model, packs=False), batch)

    found = vectors_of(make_replica(model), batch)

    np.testing.assert_array_equal(found, expected)


def test_a_batch_is_laid_end_to_end() -> None:
    ids = np.array([[5, 6, 7], [8, 0, 0], [9, 3, 0]])
    mask = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]])

    texts = pack(ids, mask, first=2)

    assert texts.ids.tolist() == [[5, 6, 7, 8, 9, 3]]
    assert texts.positions.tolist() == [[2, 3, 4, 2, 2, 3]]
    assert texts.offsets.tolist() == [0, 3, 4, 6]
    assert texts.longest == 3
    dtypes = [one.dtype for one in (texts.ids, texts.positions, texts.offsets)]
    assert dtypes == [np.int64, np.int64, np.int32]


class Kernel:
    """Checks what torch's kernel is called with, and computes it in NumPy."""

    def __init__(self) -> None:
        self.windows: list[tuple[int, int]] = []

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float,
        window_size: tuple[int, int],
    ) -> Tensor:
        assert query.shape == key.shape == value.shape
        assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        bounds = cu_seq_q.tolist()
        assert bounds == cu_seq_k.tolist()
        assert bounds[-1] == len(query)
        assert max_q == max_k == max(stop - start for start, stop in itertools.pairwise(bounds))
        assert isinstance(max_q, int)
        self.windows.append(window_size)
        attended = np.zeros(query.shape, dtype=np.float32)
        for start, stop in itertools.pairwise(bounds):
            q, k, v = (one[start:stop].numpy().swapaxes(0, 1) for one in (query, key, value))
            scores = scale * (q @ k.swapaxes(1, 2))
            apart = np.arange(stop - start)[None] - np.arange(stop - start)[:, None]
            left, right = (side if side >= 0 else stop for side in window_size)
            scores[:, (apart < -left) | (apart > right)] = -np.inf
            weights = np.exp(scores - scores.max(axis=2, keepdims=True))
            weights /= weights.sum(axis=2, keepdims=True)
            attended[start:stop] = (weights @ v).swapaxes(0, 1)
        return torch.from_numpy(attended)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel that runs on the CPU, and is called there as on a GPU."""
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    made = Kernel()
    monkeypatch.setattr(varlen, "varlen_attn", made)
    by_kernel = packed_attention._attend_by_kernel
    monkeypatch.setattr(packed_attention, "_attend_text_by_text", by_kernel)
    return made


@pytest.mark.parametrize("family", PACKED)
def test_the_kernel_is_called_as_torch_describes_it(
    family: str, tiny_model: TinyModel, kernel: Kernel
) -> None:
    model = load_model(tiny_model(family))
    batch = random_batch(LENGTHS)
    expected = vectors_of(make_replica(model, packs=False), batch)
    replica = make_replica(model)
    assert replica.packs
    kernel.windows.clear()

    found = vectors_of(replica, batch)

    np.testing.assert_allclose(found, expected, atol=5e-6)
    is_local = family == "modernbert"  # every other layer, 8 // 2 tokens to either side
    assert kernel.windows == [(-1, -1), (4, 4) if is_local else (-1, -1)] * (DEPTH // 2)


def test_a_torch_whose_kernel_knows_no_windows_leaves_models_padded(
    tiny_model: TinyModel, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.nn.attention import varlen

    def without_windows(*args: Any, scale: float) -> Tensor:
        return kernel(*args, scale=scale, window_size=(-1, -1))

    monkeypatch.setattr(varlen, "varlen_attn", without_windows)

    assert_stays_as_it_was(load_model(tiny_model("modernbert")))


def test_a_torch_without_the_kernel_leaves_models_padded(
    tiny_model: TinyModel, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.nn.attention import varlen

    monkeypatch.delattr(varlen, "varlen_attn")

    assert_stays_as_it_was(load_model(tiny_model("bert")))


class Module:
    is_causal = False


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"position_bias": torch.zeros(1)}, "position_bias"),
        ({"softcap": 30.0}, "softcap"),
        ({"s_aux": torch.zeros(1)}, "s_aux"),
        ({"is_causal": True}, "causal attention"),
        ({"dropout": 0.1}, "dropout"),
        ({"attention_mask": torch.ones(1, 1, 6, 6)}, "a mask"),
        ({"key": torch.zeros(1, 1, 6, 4)}, "grouped heads"),
    ],
)
def test_what_cannot_be_honoured_is_refused(kwargs: dict[str, Any], reason: str) -> None:
    given: dict[str, Any] = {
        **{name: torch.zeros(1, 2, 6, 4) for name in ("query", "key", "value")},
        "attention_mask": None,
        "cu_seq_lens_q": torch.tensor([0, 2, 6], dtype=torch.int32),
        "max_length_q": 4,
    }
    attend = partial(packed_attention._attend, Module())  # type: ignore[arg-type]
    attend(**given)

    with pytest.raises(ValueError, match=f"does not know {reason}$"):
        attend(**{**given, **kwargs})
