"""Tables against a library of any precision: they are made of own operations, which no processor computes otherwise."""

import mpmath
import numpy
import pytest

from nutshell.bits.fixed import tables

ARGUMENTS = numpy.concatenate([numpy.linspace(-24, 24, 97), [0.0, 1e-9, -1e-9, 0.1, -0.1, 5.9, 6.1]])


@pytest.fixture(autouse=True)
def forty_digits():
    with mpmath.workdps(40):
        yield


def phi(x):
    return x * (1 + mpmath.erf(x / mpmath.sqrt(2))) / 2


def phi_tanh(x):
    return x * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))) / 2


REFERENCES = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "erf": mpmath.erf,
    "gelu": phi,
    "gelu_new": phi_tanh,
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "relu": lambda x: max(x, mpmath.mpf(0)),
}


@pytest.mark.parametrize("name", list(REFERENCES))
def test_functions(name):
    expected = [float(REFERENCES[name](mpmath.mpf(float(x)))) for x in ARGUMENTS]
    assert getattr(tables, name)(ARGUMENTS) == pytest.approx(expected, rel=1e-13, abs=1e-13)


def test_exp_and_log():
    for x in numpy.linspace(-40, 0, 201):
        assert float(tables.exp(numpy.array([x]))[0]) == pytest.approx(
            float(mpmath.exp(mpmath.mpf(float(x)))), rel=1e-14
        )
    for x in (0.3, 0.5, 1.0, 2.0, 10000.0, 100000.0, 500000.0):
        assert tables.log(x) == pytest.approx(float(mpmath.log(mpmath.mpf(x))), rel=1e-15, abs=1e-15)


def test_waves():
    table = tables.waves(300, 8, 10000.0)
    for position in (0, 1, 17, 299):
        for i in range(4):
            angle = position / mpmath.power(10000, mpmath.mpf(2 * i) / 8)
            assert table[position, 2 * i] == pytest.approx(float(mpmath.sin(angle)), abs=1e-12)
            assert table[position, 2 * i + 1] == pytest.approx(float(mpmath.cos(angle)), abs=1e-12)


@pytest.mark.parametrize("bits", [20, 32])
def test_exp_table_is_rounded_correctly(bits):
    table = tables.exp_table(bits)
    assert table[0] == 2**bits and table[-1] == 0
    for i in range(0, len(table) - 1, 997):
        exact = mpmath.exp(mpmath.mpf(-i) / 2**tables.STEP_BITS) * 2**bits
        assert abs(table[i] - exact) <= 0.5


@pytest.mark.parametrize("name", list(tables.ACTIVATIONS))
def test_an_activation_is_that_of_a_positive_number_and_a_table(name):
    function, table = tables.ACTIVATIONS[name], tables.activation_table(name, 12)
    places = numpy.arange(0, len(table), 137)
    x = places * 2.0**-tables.STEP_BITS
    assert x + table[places] * 2.0**-12 == pytest.approx(function(x), abs=2.0**-13)
    assert table[places] * 2.0**-12 == pytest.approx(function(-x), abs=2.0**-13)


def test_names_are_those_of_transformers():
    import torch
    from transformers.activations import ACT2FN

    x = torch.linspace(-9, 9, 181, dtype=torch.float64)
    for name, function in tables.ACTIVATIONS.items():
        assert function(x.numpy()) == pytest.approx(ACT2FN[name](x).numpy(), abs=1e-7)
