"""Tokens through every kind of model, in lanes and windows, and back."""

import pytest
import torch
from safetensors.torch import load_file

from nutshell.bits.codec import lanes
from nutshell.bits.codec.native import Native
from nutshell.bits.codec.tables import Exact, probe
from nutshell.bits.coder import Damaged
from nutshell.bits.fixed import build as fixed
from nutshell.models.find import read_config
from nutshell.models.language import build
from nutshell.models.language.architectures import CAUSAL
from tests.models.language import tiny

TOKENS = 90


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny model of an architecture, made once."""
    folders = {}

    def _made(name):
        if name not in folders:
            folders[name] = tiny.make(name, tmp_path_factory.mktemp(name))
        return folders[name]

    return _made


def tables(folder, arithmetic):
    if arithmetic == "native":
        return Native(build.load(folder).eval())
    return Exact(fixed.build(read_config(folder), load_file(folder / "model.safetensors")))


@pytest.mark.parametrize(
    ("name", "arithmetic"),
    [(name, "exact") for name in ("gpt2", "scratch", "lstm", "llama")] + [(name, "native") for name in CAUSAL],
)
def test_tokens_come_back(name, arithmetic, made):
    """Windows begin again four times; the model's own arithmetic in a second model object, too."""
    coder, ids = (
        tables(made(name), arithmetic),
        torch.randint(256, (TOKENS,), generator=torch.Generator().manual_seed(1)),
    )
    for count in (1, 4):
        plan = lanes.Plan.of(TOKENS, count, window=10)
        body, bits = lanes.encode(coder, 7, ids.tolist(), plan)
        assert lanes.decode(tables(made(name), arithmetic), 7, body, plan) == ids.tolist()
        assert len(body) <= bits / 8 * 1.0001 + 3


@pytest.mark.parametrize("name", ["gpt2", "scratch", "lstm", "llama"])
def test_exact_tables_do_not_depend_on_how_they_are_asked(name, made):
    coder = tables(made(name), "exact")
    ids = torch.randint(256, (5, 12), generator=torch.Generator().manual_seed(2))
    whole = coder.frequencies(ids, coder.state(5, 12))
    for row in range(5):
        state = coder.state(1, 12)
        coder.fill(ids[row : row + 1, :3], state)
        for at in range(3, 12):
            assert torch.equal(coder.frequencies(ids[row : row + 1, at : at + 1], state)[0, 0], whole[row, at])
    assert probe(coder, 12) == probe(tables(made(name), "exact"), 12)


def test_windows_are_those_of_a_stride_of_half_a_block():
    spans = list(lanes.Plan.of(37, 1, 10).spans())
    assert spans == [(0, 0, 10), (5, 10, 15), (10, 15, 20), (15, 20, 25), (20, 25, 30), (25, 30, 35), (30, 35, 37)]
    assert list(lanes.Plan.of(7, 3, 10).spans()) == [(0, 0, 3)] and lanes.Plan.of(7, 3, 10).sizes == (3, 2, 2)
    assert [first for _, first, _ in lanes.Plan.of(4, 1, 1).spans()] == [0, 1, 2, 3]


def test_another_body_is_damage_at_the_next_check(made, monkeypatch):
    monkeypatch.setattr(lanes, "CHECK_TOKENS", 16)
    coder, plan = tables(made("gpt2"), "exact"), lanes.Plan.of(4000, 50, 10)
    ids = torch.randint(256, (4000,), generator=torch.Generator().manual_seed(3)).tolist()
    body, _ = lanes.encode(coder, 7, ids, plan)
    steps = []
    with pytest.raises(Damaged):
        lanes.decode(coder, 7, body[:20] + bytes([body[20] ^ 1]) + body[21:], plan, steps.append)
    assert max(steps, default=0) < 400


def test_how_many_lanes():
    assert [lanes.lanes_for(tokens, None, 1000) for tokens in (1, 1023, 2048, 10**7)] == [1, 1, 2, 128]
    assert (
        lanes.lanes_for(10**7, None, 5) == 5 and lanes.lanes_for(3, 64, 1000) == 3 and lanes.lanes_for(10**7, 7, 5) == 7
    )
