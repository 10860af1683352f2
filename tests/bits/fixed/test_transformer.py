"""The laws of exact arithmetic: the same logits in parallel and step by step, whatever the lanes and what comes later."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from nutshell.bits.fixed.arithmetic import LOGIT_BITS
from nutshell.bits.fixed.build import build
from nutshell.models.language.own.lstm import LstmConfig, LstmForCausalLM
from nutshell.models.language.own.transformer import ScratchConfig, ScratchForCausalLM

VOCAB = 61


def grown(model):
    """The model with weights as large as trained ones."""
    torch.manual_seed(3)
    for weight in model.parameters():
        weight.data += 0.2 * torch.randn_like(weight)
    return model.eval()


def gpt2(**settings):
    sizes = dict(vocab_size=VOCAB, n_layer=2, n_head=2, n_embd=32, n_positions=24, bos_token_id=None, eos_token_id=None)
    return grown(GPT2LMHeadModel(GPT2Config(**sizes | settings)))


def scratch(**settings):
    sizes = dict(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=24
    )
    return grown(ScratchForCausalLM(ScratchConfig(**sizes | settings)))


def lstm(**settings):
    sizes = dict(vocab_size=VOCAB, embedding_size=32, hidden_size=32)
    return grown(LstmForCausalLM(LstmConfig(**sizes | settings)))


def llama(**settings):
    sizes = dict(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    return grown(LlamaForCausalLM(LlamaConfig(**sizes | {"num_key_value_heads": 2} | settings)))


MODELS = {
    "llama": llama,
    "llama, tied, wider heads": lambda: llama(tie_word_embeddings=True, num_key_value_heads=4, head_dim=16),
    "gpt2": gpt2,
    "gpt2, untied, gelu": lambda: gpt2(tie_word_embeddings=False, activation_function="gelu"),
    "scratch": scratch,
    "scratch, sinusoids, after, relu": lambda: scratch(positions="sinusoidal", norm="post", activation="relu"),
    "scratch, after, silu": lambda: scratch(norm="post", activation="silu", tie_word_embeddings=False),
    "lstm": lstm,
    "lstm, projected": lambda: lstm(embedding_size=16, num_hidden_layers=1),
    "lstm, untied": lambda: lstm(embedding_size=16, tie_word_embeddings=False),
}


@pytest.fixture(params=list(MODELS))
def model(request):
    return MODELS[request.param]()


@pytest.fixture
def ids():
    return torch.randint(0, VOCAB, (11, 24), generator=torch.Generator().manual_seed(5))


def test_parallel_is_step_by_step(model, ids):
    fixed = build(model.config.to_dict(), model.state_dict())
    at_once, state = fixed(ids), fixed.state(11, 24)
    steps = torch.cat([fixed(ids[:, t : t + 1], state) for t in range(24)], 1)
    assert torch.equal(at_once, steps)
    state = fixed.state(11, 24)
    assert fixed(ids[:, :9], state, 0).shape == (11, 0, VOCAB)
    assert torch.equal(fixed(ids[:, 9:20], state, 4), at_once[:, 16:20])
    assert torch.equal(fixed(ids[:, 20:], state), at_once[:, 20:])


def test_lanes_do_not_meet(model, ids):
    fixed = build(model.config.to_dict(), model.state_dict())
    at_once = fixed(ids)
    for lanes in (1, 3, 9):
        assert torch.equal(fixed(ids[:lanes]), at_once[:lanes])


def test_logits_are_those_of_the_real_model(model, ids):
    fixed = build(model.config.to_dict(), model.state_dict())
    with torch.no_grad():
        reference = model.double()(input_ids=ids).logits
    logits = fixed(ids) * 2.0**-LOGIT_BITS
    targets = reference.flatten(0, 1).softmax(-1).multinomial(1, generator=torch.Generator().manual_seed(1))[:, 0]
    nats = [torch.nn.functional.cross_entropy(rows.flatten(0, 1), targets).item() for rows in (logits, reference)]
    assert nats[0] == pytest.approx(nats[1], rel=2e-4)
    assert (logits - reference).abs().max() < 0.05
