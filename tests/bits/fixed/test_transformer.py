"""The laws of exact arithmetic: the same logits in parallel and step by step, whatever the lanes and what comes later."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from nutshell.bits.fixed.arithmetic import LOGIT_BITS, frequencies
from nutshell.bits.fixed.build import build, problem
from nutshell.machine.errors import UserError
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


def test_a_token_changes_nothing_before_it(model, ids):
    fixed = build(model.config.to_dict(), model.state_dict())
    before, other = fixed(ids), ids.clone()
    other[:, 13] = (other[:, 13] + 1) % VOCAB
    after = fixed(other)
    assert torch.equal(after[:, :13], before[:, :13])
    assert not torch.equal(after[:, 13:], before[:, 13:])


def test_threads_change_nothing(model, ids):
    fixed = build(model.config.to_dict(), model.state_dict())
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            state = fixed.state(11, 24)
            results.append((fixed(ids[:, :20], state), fixed(ids[:, 20:21], state), frequencies(fixed(ids))))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(results[0] * 2, (*results[1], *results[2]), strict=True):
        assert torch.equal(one, other)


def test_logits_are_those_of_the_real_model(model, ids):
    fixed = build(model.config.to_dict(), model.state_dict())
    with torch.no_grad():
        reference = model.double()(input_ids=ids).logits
    logits = fixed(ids) * 2.0**-LOGIT_BITS
    targets = reference.flatten(0, 1).softmax(-1).multinomial(1, generator=torch.Generator().manual_seed(1))[:, 0]
    nats = [torch.nn.functional.cross_entropy(rows.flatten(0, 1), targets).item() for rows in (logits, reference)]
    assert nats[0] == pytest.approx(nats[1], rel=2e-4)
    assert (logits - reference).abs().max() < 0.05


def test_half_precision_weights_are_real_numbers_too(ids):
    model = gpt2().bfloat16()
    whole = build(model.config.to_dict(), {name: weight.float() for name, weight in model.state_dict().items()})
    assert torch.equal(build(model.config.to_dict(), model.state_dict())(ids), whole(ids))


def test_more_tokens_than_positions_are_refused():
    model = gpt2()
    fixed = build(model.config.to_dict(), model.state_dict())
    with pytest.raises(UserError, match="reads at most 24 tokens in exact arithmetic, not 25"):
        fixed.state(2, 25)
    with pytest.raises(UserError, match="reads at most 24 tokens"):
        fixed(torch.zeros(2, 25, dtype=torch.int64))


def test_activations_without_bound_stay_exact(ids):
    """Keys and values beyond their limits are clamped: the same in parallel and step by step."""
    model = gpt2()
    for layer in model.transformer.h:
        layer.attn.c_attn.weight.data *= 400
        layer.mlp.c_fc.weight.data *= 400
    fixed = build(model.config.to_dict(), model.state_dict())
    state = fixed.state(11, 24)
    steps = torch.cat([fixed(ids[:, t : t + 1], state) for t in range(24)], 1)
    assert torch.equal(fixed(ids), steps) and steps.isfinite().all()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "opt"}, "is written for gpt2, scratch, llama, lstm, not for opt"),
        ({"model_type": "gpt2", "activation_function": "mish"}, "no table for the activation mish, only for gelu"),
        ({"model_type": "gpt2", "scale_attn_weights": False}, "asks for another scale"),
        ({"model_type": "llama", "attention_bias": True}, "knows no attention_bias"),
        ({"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 2}}, "not of linear"),
        ({"model_type": "llama", "rope_parameters": {"rope_type": "yarn"}}, "not of yarn"),
    ],
)
def test_problems(config, reason):
    assert reason in problem(config)


def test_no_problem():
    for make in MODELS.values():
        assert problem(make().config.to_dict()) is None
    assert problem({"model_type": "gpt2"}) is problem({"model_type": "llama"}) is None
