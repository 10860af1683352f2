"""Weights as bytes: what comes back, how few bytes they are, and what is refused."""

import json
import lzma
import math

import gguf
import numpy
import pytest
import torch
from transformers import AutoModelForCausalLM

from nutshell.bits import weights
from nutshell.bits.coder import Damaged
from nutshell.machine.errors import UserError


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return {
        "wide": torch.randn(24, 100) * torch.rand(24, 1),
        "tall.weight": 0.02 * torch.randn(640, 32),
        "bias": torch.randn(33),
        "zeros": torch.zeros(5, 4),
        "row": torch.randn(1, 7),
        "column": torch.randn(7, 1),
        "filters": torch.randn(3, 4, 5),
        "turned": torch.randn(6, 9).T,
        "number": torch.tensor(2.5),
    }


def back(state, form):
    """The body, and what is unpacked from it."""
    body = weights.pack(state, form)
    decoded = weights.unpack(body, {name: tensor.shape for name, tensor in state.items()})
    assert decoded.keys() == state.keys()
    assert all(decoded[name].shape == tensor.shape for name, tensor in state.items())
    assert all(tensor.dtype == torch.float32 for tensor in decoded.values())
    return body, decoded


@pytest.mark.parametrize("form", ["fp32", "bf16", "bf16_coded"])
def test_floats_come_back_as_they_are_rounded(state, form):
    body, decoded = back(state, form)
    count = sum(tensor.numel() for tensor in state.values())
    for name, tensor in state.items():
        assert torch.equal(decoded[name], tensor if form == "fp32" else tensor.bfloat16().float())
    if form != "bf16_coded":
        assert len(body) == 1 + count * (4 if form == "fp32" else 2)
    else:
        assert len(body) < 0.72 * 2 * count


@pytest.mark.parametrize("form", weights.INTEGERS)
def test_a_matrix_is_scales_times_whole_numbers(state, form):
    """Few levels; a scale in bf16 for each row, or column if those are fewer, and none of the others is better."""
    most = 2 ** (int(form[3:]) - 1) - 1
    _, decoded = back(state, form)
    assert torch.equal(decoded["bias"], state["bias"].bfloat16().float())
    assert torch.equal(decoded["number"], state["number"]) and torch.equal(decoded["zeros"], state["zeros"])
    for name in ("wide", "tall.weight", "row", "column", "filters", "turned"):
        matrix, found = (tensors[name].flatten(1) for tensors in (state, decoded))
        if len(matrix) > matrix.shape[1]:
            matrix, found = matrix.T, found.T
        for values, own in zip(matrix, found, strict=True):
            errors = {}
            for share in weights.SHARES:
                scale = (values.abs().max() * torch.tensor(share / most, dtype=torch.float32)).bfloat16().float()
                nearest = (values / scale).round().clamp(-most, most) * scale
                errors[float(((values - nearest) ** 2).sum())] = nearest
            assert torch.equal(own, errors[min(errors)])


def test_the_code_is_as_short_as_the_symbols_frequencies():
    """Of each matrix the numbers' entropy, the levels that were learned on the way, and nothing else."""
    torch.manual_seed(0)
    matrix = torch.randn(400, 400)
    body, decoded = back({"matrix": matrix}, "int6")
    scales = weights.pack({"matrix": decoded["matrix"].abs().amax(1)}, "bf16_coded")
    levels = numpy.concatenate([numpy.unique(row, return_inverse=True)[1] - 31 for row in decoded["matrix"].numpy()])
    counts = numpy.unique(levels, return_counts=True)[1]
    entropy_bytes = -(counts * numpy.log2(counts / counts.sum())).sum() / 8
    learned_bytes = 63 * math.log2(matrix.numel()) / 2 / 8
    assert entropy_bytes < len(body) < entropy_bytes + learned_bytes + len(scales)


def test_fewer_bits_are_fewer_bytes_and_worse(state):
    sizes, errors = [], []
    for form in weights.INTEGERS:
        body, decoded = back(state, form)
        sizes.append(len(body))
        errors.append(float((decoded["tall.weight"] - state["tall.weight"]).square().sum()))
    assert sizes == sorted(sizes, reverse=True) and errors == sorted(errors)


def test_q4_1_is_gguf_s_own(state):
    body, decoded = back(state, "q4_1")
    for name in ("tall.weight", "wide"):
        blocks = numpy.pad(state[name].numpy().ravel(), (0, -state[name].numel() % 32), mode="edge").reshape(-1, 32)
        packed = gguf.quantize(blocks, gguf.GGMLQuantizationType.Q4_1)
        assert packed.tobytes() in body
        dequantized = gguf.dequantize(packed, gguf.GGMLQuantizationType.Q4_1).ravel()[: state[name].numel()]
        assert torch.equal(decoded[name].flatten(), torch.from_numpy(dequantized))
    assert torch.equal(decoded["bias"], state["bias"])
    vectors = sum(4 * tensor.numel() for tensor in state.values() if tensor.ndim < 2)
    assert len(body) == 1 + vectors + sum(20 * -(-t.numel() // 32) for t in state.values() if t.ndim > 1)


@pytest.mark.parametrize("form", weights.FORMS)
def test_the_bytes_hold_the_form_and_every_weight(state, form):
    like = {name: tensor.shape for name, tensor in state.items()}
    body = weights.pack(state, form)
    with pytest.raises(Damaged):
        weights.unpack(body + b"\0", like)
    with pytest.raises(Damaged):
        weights.unpack(body[: len(body) // 2], like)
    with pytest.raises(Damaged):
        weights.unpack(body, like | {"more": (5, 40)})
    for other in (b"", b"\xff" + body[1:]):
        with pytest.raises(Damaged, match="no weights"):
            weights.unpack(other, like)


@pytest.mark.parametrize("form", weights.FORMS)
def test_what_is_no_number_is_refused(form):
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(UserError, match=r"head: a weight is not finite"):
            weights.pack({"head": torch.tensor([[1.0, value], [0.0, 0.0]])}, form)


def test_what_is_too_large_for_a_form_is_refused():
    large = {"head": torch.full((2, 2), 3.4e38)}
    assert back(large, "fp32")
    for form in ("bf16", "bf16_coded", "q4_1"):
        with pytest.raises(UserError, match=r"head: .* too large"):
            weights.pack(large, form)


def test_what_is_tied_counts_once(causal):
    model = AutoModelForCausalLM.from_pretrained(causal["gpt2"])
    assert model.lm_head.weight is model.transformer.wte.weight
    state = weights.weights(model)
    assert sum(tensor.numel() for tensor in state.values()) == model.num_parameters()
    assert len(weights.pack(state, "fp32")) == 1 + 4 * model.num_parameters()


def test_buffers_that_are_saved_are_learned_too():
    norm = torch.nn.BatchNorm1d(3)
    norm.register_buffer("table", torch.zeros(4), persistent=False)
    assert {*weights.weights(norm)} == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def test_the_curve_is_of_the_decoded_weights(causal):
    model = AutoModelForCausalLM.from_pretrained(causal["gpt2"]).eval()
    before = {name: tensor.clone() for name, tensor in weights.weights(model).items()}
    seen = []

    def measure(model):
        seen.append({name: tensor.clone() for name, tensor in weights.weights(model).items()})
        assert torch.equal(model.lm_head.weight, model.transformer.wte.weight)
        return float(len(seen))

    rows = [*weights.curve(model, measure, ("fp32", "int3"))]
    bodies = [weights.pack(before, form) for form in ("fp32", "int3")]
    assert rows == [("fp32", len(bodies[0]), 1.0), ("int3", len(bodies[1]), 2.0)]
    for body, held in zip(bodies, seen, strict=True):
        decoded = weights.unpack(body, {name: tensor.shape for name, tensor in before.items()})
        assert all(torch.equal(held[name], decoded[name]) for name in before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights.weights(model).items())


def test_a_measurement_that_fails_leaves_the_model_as_it_was():
    model = torch.nn.Linear(8, 8)
    before = model.weight.clone()

    def measure(model):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        next(weights.curve(model, measure, ["int2"]))
    assert torch.equal(model.weight, before)


def test_tokenizer_and_config_have_a_size_too(tmp_path):
    tokenizer = {
        "added_tokens": [{"id": 3, "content": "<|end|>"}],
        "model": {"vocab": {"b": 1, "a": 0, "ab": 2}, "merges": [["a", "b"]]},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"n_layer": 2}, indent=4), encoding="utf-8")
    expected = {"tokenizer": b"a\nb\nab\n<|end|>\na b", "config": b'{"n_layer":2}'}
    preset = 9 | lzma.PRESET_EXTREME
    assert weights.side_bytes(tmp_path) == {
        name: len(lzma.compress(text, preset=preset)) for name, text in expected.items()
    }
