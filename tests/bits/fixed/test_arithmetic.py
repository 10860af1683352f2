"""Integers in float64: bounds are asserted, norms and frequencies are those of their formulas."""

import numpy
import pytest
import torch

from nutshell.bits.fixed import arithmetic
from nutshell.bits.fixed.arithmetic import Activation, Gate, frequencies, linear, norm, quantize
from nutshell.machine.errors import UserError


def integers(*shape, most, seed=0):
    return torch.randint(-most, most + 1, shape, generator=torch.Generator().manual_seed(seed)).double()


def test_a_product_is_that_of_whole_numbers_at_its_bound():
    weight = torch.full((1000, 3), 0.999) * torch.tensor([1, -1, 1])
    product = linear("w", weight, torch.tensor([0.5, 0, -0.25]))
    a = integers(5, 1000, most=arithmetic.LIMIT)
    exact = a.long().numpy().astype(object) @ product.weight.long().numpy().astype(object)
    exact = exact + product.bias.long().numpy().astype(object)
    assert (product(a).long().numpy().astype(object) == exact).all()


def test_weights_too_large_for_exact_sums_are_refused():
    linear("fits", torch.full((1000, 2), 4.0))
    with pytest.raises(
        UserError, match=r"^h\.0\.up: exact arithmetic needs sums below 2\^52, .* use native arithmetic$"
    ):
        linear("h.0.up", torch.full((1000, 2), 4.2))
    with pytest.raises(UserError, match="sums below 2"):
        linear("h.0.up", torch.ones(2, 2), torch.tensor([1e30, 0]))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(wrong):
    bad = torch.tensor([[1.0, wrong]])
    for use in (
        lambda: linear("w", bad),
        lambda: quantize("w", bad, 3),
        lambda: norm({"w.weight": bad[0]}, "w", 1e-5, centre=False),
    ):
        with pytest.raises(UserError, match="w: exact arithmetic needs weights that are finite"):
            use()


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("size", [1e-3, 1.0, 3000.0])
def test_norms(centre, size):
    torch.manual_seed(1)
    stream = quantize("x", torch.randn(6, 96) * size + 0.3 * size, arithmetic.STREAM_BITS)
    weights = {"n.weight": torch.randn(96), "n.bias": torch.randn(96)}
    x = stream * 2.0**-arithmetic.STREAM_BITS
    centred = x - x.mean(-1, keepdim=True) if centre else x
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weights["n.weight"].double()
    expected += weights["n.bias"].double() if centre else 0
    result = norm(weights, "n", 1e-5, centre=centre)(stream) * 2.0**-arithmetic.ACTIVATION_BITS
    assert (result - expected).abs().max() < 2.0**-arithmetic.ACTIVATION_BITS


def test_norms_of_nothing_and_of_the_largest():
    weights = {"n.weight": torch.ones(8), "n.bias": torch.full((8,), 0.5)}
    stream = torch.zeros(3, 8, dtype=torch.float64)
    stream[1] = 2.0**60  # is clamped
    stream[2, 0] = 2.0**60
    half = 0.5 * 2**arithmetic.ACTIVATION_BITS
    result = norm(weights, "n", 1e-5)(stream)
    assert (result[:2] == half).all() and result[2, 0] == pytest.approx(half + 7**0.5 * 2**12, abs=1)
    with pytest.raises(UserError, match="proven for 4,096 hidden dimensions, not 5,000"):
        norm({"n.weight": torch.ones(5000)}, "n", 1e-5, centre=False)


def test_activations_and_gates():
    x = integers(4, 64, most=12 << arithmetic.PRODUCT_BITS)
    real, step = x * 2.0**-arithmetic.PRODUCT_BITS, 2.0**-arithmetic.ACTIVATION_BITS
    result = Activation("gelu")(x.clone()) * step
    assert (result - torch.nn.functional.gelu(real)).abs().max() < 2 * step
    gates, others = real.chunk(2, 1)
    result = Gate("silu")(x.clone()) * step
    assert (result - torch.nn.functional.silu(gates) * others).abs().max() < 2 * step * 12
    assert Activation("relu")(torch.tensor([1e30, -1e30], dtype=torch.float64)).tolist() == [arithmetic.LIMIT, 0]


def brute_force(row):
    powers = [
        float(numpy.float64(2.0**32)) * float(p) for p in torch.exp((row - row.max()) * 2.0**-arithmetic.LOGIT_BITS)
    ]
    return [power * 2**32 / sum(powers) for power in powers]


@pytest.mark.parametrize("spread", [0, 0.1, 3, 20, 1000])
def test_frequencies(spread):
    logits = integers(7, 5, 333, most=int(spread * 2**arithmetic.LOGIT_BITS))
    result = frequencies(logits)
    assert result.shape == logits.shape and result.dtype == torch.int64 and result.min() >= 1
    assert (result.sum(-1) <= 2**32 + 333).all() and (result.sum(-1) > 2**32 - 333).all()
    assert torch.equal(frequencies(logits[2:4]), result[2:4])
    expected = torch.tensor([brute_force(row) for row in logits.flatten(0, 1)]).view(logits.shape)
    assert ((result - 1 - expected).abs() <= expected * 3e-4 + 2).all()


def test_frequencies_of_one_token_and_of_equal_ones():
    assert frequencies(torch.zeros(1, 1, dtype=torch.float64)).tolist() == [[2**32 + 1]]
    assert frequencies(torch.full((1, 4), -5e15, dtype=torch.float64)).tolist() == [[2**30 + 1] * 4]
