"""The Transformer written out: against torch's attention, GPT-2's logits, brute force and itself with a cache."""

import inspect
import itertools
import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import GPT2Config, GPT2LMHeadModel

from nutshell.models.language.own import transformer as scratch
from nutshell.models.language.own.transformer import ScratchConfig, ScratchForCausalLM

SIZES = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
# Large initial weights, or every token would be about as likely as any other and greedy choices a matter of rounding.
SIZES |= {"max_position_embeddings": 32, "initializer_range": 0.3}
VARIANTS = [
    {"positions": positions, "norm": norm, "tie_word_embeddings": tied}
    for positions, norm, tied in itertools.product(("learned", "sinusoidal"), ("pre", "post"), (True, False))
]
variants = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())))
NAMES = {
    "transformer.wte": "embedding",
    "transformer.wpe": "positions",
    "transformer.h": "blocks",
    "ln_1": "attention_norm",
    "ln_2": "feed_forward_norm",
    "transformer.ln_f": "norm",
    "attn.c_attn": "attention.input",
    "attn.c_proj": "attention.output",
    "mlp.c_fc": "feed_forward.input",
    "mlp.c_proj": "feed_forward.output",
}


def build(seed: int = 0, **changes) -> ScratchForCausalLM:
    torch.manual_seed(seed)
    return ScratchForCausalLM(ScratchConfig(**SIZES | changes)).eval()


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, SIZES["vocab_size"], shape, generator=torch.Generator().manual_seed(seed))


def translated(model: GPT2LMHeadModel) -> dict[str, torch.Tensor]:
    """GPT-2's weights under this model's names; its Conv1D keeps them (inputs, outputs), Linear (outputs, inputs)."""
    weights = {}
    for name, weight in model.state_dict().items():
        transposed = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        weights[name] = weight.T if transposed else weight
    return weights


def from_gpt2(model: GPT2LMHeadModel) -> ScratchForCausalLM:
    theirs = model.config
    config = ScratchConfig(
        vocab_size=theirs.vocab_size,
        hidden_size=theirs.n_embd,
        num_hidden_layers=theirs.n_layer,
        num_attention_heads=theirs.n_head,
        feed_forward_size=theirs.n_inner,
        max_position_embeddings=theirs.n_positions,
        activation=theirs.activation_function,
        layer_norm_epsilon=theirs.layer_norm_epsilon,
        tie_word_embeddings=theirs.tie_word_embeddings,
    )
    ours = ScratchForCausalLM(config)
    ours.load_state_dict(translated(model))
    return ours.eval()


def gpt2(**changes) -> GPT2LMHeadModel:
    torch.manual_seed(2)
    sizes = {"vocab_size": 31, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "initializer_range": 0.3}
    sizes |= {"bos_token_id": None, "eos_token_id": None}
    return GPT2LMHeadModel(GPT2Config(**sizes | changes)).eval()


def test_attention_is_torchs_own():
    generator = torch.Generator().manual_seed(3)
    queries = torch.randn(3, 2, 5, 8, generator=generator)
    keys, values = torch.randn(2, 3, 2, 7, 8, generator=generator)
    mask = torch.rand(3, 1, 5, 7, generator=generator) < 0.5
    mask[..., 0] = True
    expected = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    torch.testing.assert_close(scratch.attention(queries, keys, values, mask), expected, atol=1e-6, rtol=1e-5)


def test_a_query_that_may_see_nothing_gets_numbers_and_gradients():
    queries = torch.randn(1, 1, 2, 4, requires_grad=True)
    seen = scratch.attention(queries, queries, queries, torch.tensor([[False, False], [True, False]]))
    seen.sum().backward()
    assert seen.isfinite().all() and queries.grad.isfinite().all()


def test_attention_drops_weights_only_where_stated():
    queries, mask = torch.ones(1, 1, 4, 4), torch.ones(4, 4, dtype=torch.bool)
    assert torch.equal(scratch.attention(queries, queries, queries, mask), queries)
    torch.manual_seed(4)
    assert not torch.equal(scratch.attention(queries, queries, queries, mask, dropout=0.5), queries)


def test_sinusoids_by_hand():
    table = scratch.sinusoids(50, 6)
    assert table.shape == (50, 6)
    for position, dimension in itertools.product((0, 1, 49), range(6)):
        wave = (math.sin, math.cos)[dimension % 2]
        expected = wave(position / 10000 ** (2 * (dimension // 2) / 6))
        assert table[position, dimension].item() == pytest.approx(expected, abs=1e-5)


@variants
def test_a_later_token_never_changes_an_earlier_logit(variant):
    model, ids = build(**variant), draw(2, 9)
    changed = ids.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 31
    with torch.no_grad():
        before, after = model(ids).logits, model(changed).logits
    assert before.shape == (2, 9, 31) and before.dtype == torch.float32
    assert torch.equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] != after[:, 6:]).any(-1).all()


@variants
def test_cached_logits_are_the_uncached(variant):
    model, ids = build(**variant), draw(2, 9)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    with torch.no_grad():
        whole = model(ids, attention_mask=mask, use_cache=False)
        cache, pieces = None, []
        for start, end in ((0, 4), (4, 5), (5, 9)):
            output = model(ids[:, start:end], attention_mask=mask[:, :end], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            pieces.append(output.logits)
    assert whole.past_key_values is None and cache.get_seq_length() == 9
    real = mask.bool()
    torch.testing.assert_close(torch.cat(pieces, 1)[real], whole.logits[real], atol=1e-5, rtol=0)


def test_a_model_in_training_keeps_no_cache():
    model, ids = build(), draw(1, 4)
    assert model(ids).past_key_values is not None
    assert model.train()(ids).past_key_values is None


@pytest.mark.parametrize("how", [{}, {"do_sample": True}, {"num_beams": 2}], ids=["greedy", "sampling", "beams"])
def test_generate_with_a_cache_draws_the_same_tokens_as_without(how):
    model, ids = build(), draw(2, 5)
    texts = []
    for use_cache in (True, False):
        torch.manual_seed(5)
        texts.append(model.generate(ids, max_new_tokens=8, use_cache=use_cache, pad_token_id=0, **how))
    assert texts[0].shape == (2, 13) and torch.equal(*texts)


@variants
def test_greedy_in_a_padded_batch_is_greedy_one_by_one(variant):
    model, lengths = build(**variant), (2, 5, 3)
    prompts = [draw(1, length, seed=length) for length in lengths]
    ids = torch.cat([torch.nn.functional.pad(prompt, (5 - prompt.shape[1], 0)) for prompt in prompts])
    mask = torch.tensor([[0] * (5 - length) + [1] * length for length in lengths])
    together = model.generate(ids, attention_mask=mask, max_new_tokens=8, pad_token_id=0)[:, 5:]
    alone = [model.generate(prompt, max_new_tokens=8, pad_token_id=0)[0, prompt.shape[1] :] for prompt in prompts]
    assert torch.equal(together, torch.stack(alone)) and len(together.unique()) > 2


@pytest.mark.parametrize(
    "changes",
    [{}, {"n_inner": 24, "activation_function": "relu"}, {"tie_word_embeddings": False}],
    ids=["tied", "narrow relu", "untied"],
)
def test_the_weights_of_gpt2_give_its_logits(changes):
    theirs, ids = gpt2(**changes), draw(3, 12)
    ours = from_gpt2(theirs)
    padded = torch.ones_like(ids)
    padded[0, :4] = padded[1, :1] = 0
    with torch.no_grad():
        for mask in (None, torch.ones_like(ids), padded):
            # Stock GPT-2 counts positions from the mask only in generate.
            positions = None if mask is None else (mask.cumsum(-1) - 1).clamp(min=0)
            expected = theirs(ids, attention_mask=mask, position_ids=positions).logits
            real = slice(None) if mask is None else mask.bool()
            logits = ours(ids, attention_mask=mask).logits
            torch.testing.assert_close(logits[real], expected[real], atol=1e-4, rtol=0)


def test_only_the_asked_for_logits_are_computed():
    model, ids = build(), draw(2, 7)
    with torch.no_grad():
        whole, last = model(ids).logits, model(ids, logits_to_keep=2).logits
    torch.testing.assert_close(last, whole[:, -2:])


@variants
def test_a_saved_model_comes_back_bit_equal_and_as_tied(variant, tmp_path):
    model, ids = build(**variant), draw(2, 9)
    model.save_pretrained(tmp_path)
    again = ScratchForCausalLM.from_pretrained(tmp_path)
    tied = variant["tie_word_embeddings"]
    assert (again.lm_head.weight is again.embedding.weight) == tied
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    with torch.no_grad():
        assert torch.equal(model(ids).logits, again(ids).logits)


def test_the_loss_is_the_mean_over_predicted_tokens():
    model, ids = build(), draw(3, 8)
    labels = ids.clone()
    labels[0, 5:] = labels[1, 0] = labels[2, 3] = -100
    with torch.no_grad():
        output = model(ids, labels=labels)
        summed = model(ids, labels=labels, num_items_in_batch=torch.tensor(40)).loss
    nats = [
        -output.logits[row, token - 1].log_softmax(-1)[labels[row, token]].item()
        for row, token in itertools.product(range(3), range(1, 8))
        if labels[row, token] != -100
    ]
    assert len(nats) == 17
    assert output.loss.item() == pytest.approx(sum(nats) / 17, rel=1e-5)
    assert summed.item() == pytest.approx(sum(nats) / 40, rel=1e-5)


def test_parameters_counted_by_hand():
    attention = 16 * 48 + 48 + 16 * 16 + 16
    feed_forward = 16 * 40 + 40 + 40 * 16 + 16
    blocks = 2 * (attention + feed_forward + 2 * 2 * 16)
    assert build(feed_forward_size=40).num_parameters() == 31 * 16 + 32 * 16 + blocks + 2 * 16
    plain = build(feed_forward_size=40, positions="sinusoidal", norm="post", tie_word_embeddings=False)
    assert plain.num_parameters() == 2 * 31 * 16 + blocks
    assert build().blocks[0].feed_forward.input.weight.shape == (64, 16)


def test_initial_weights_are_as_wide_as_those_of_gpt2():
    sizes = {"vocab_size": 101, "hidden_size": 64, "num_hidden_layers": 4, "initializer_range": 0.02}
    ours = build(**sizes).state_dict()
    theirs = translated(gpt2(vocab_size=101, n_embd=64, n_layer=4, initializer_range=0.02))
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert ours[name].shape == weight.shape
        assert ours[name].std().item() == pytest.approx(weight.std().item(), rel=0.1), name
        assert ours[name].mean().item() == pytest.approx(weight.mean().item(), abs=2e-3), name
    assert ours["blocks.3.attention.output.weight"].std().item() == pytest.approx(0.02 / math.sqrt(8), rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 3}, "hidden_size 16 is no multiple of 3 heads"),
        ({"hidden_size": 15, "num_attention_heads": 3, "positions": "sinusoidal"}, "need an even hidden_size, not 15"),
        ({"activation": "gelu_nwe"}, "activation gelu_nwe is unknown, known are"),
    ],
)
def test_an_impossible_config_is_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        ScratchConfig(**SIZES | changes)
    assert "\n" not in str(caught.value)


def test_more_tokens_than_learned_positions_are_refused_and_sinusoids_go_on():
    ids = draw(1, 33)
    with pytest.raises(ValueError, match="33 tokens exceed the 32 learned positions"):
        build()(ids)
    with pytest.raises(ValueError, match="33 tokens exceed"):
        build()(ids[:, :1], past_key_values=build()(ids[:, :32]).past_key_values)
    assert build(positions="sinusoidal")(ids).logits.isfinite().all()


def test_autocast_halves_the_logits_but_not_the_loss():
    model, ids = build(), draw(2, 6)
    with torch.no_grad():
        full = model(ids, labels=ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(ids, labels=ids)
            model.generate(ids, max_new_tokens=2, pad_token_id=0)
    assert (full.logits.dtype, half.logits.dtype, half.loss.dtype) == (torch.float32, torch.bfloat16, torch.float32)
    assert half.loss.item() == pytest.approx(full.loss.item(), rel=0.02)


def test_a_subclass_of_any_name_keeps_the_loss():
    class Renamed(ScratchForCausalLM):
        pass

    assert Renamed(ScratchConfig(**SIZES)).loss_type == "ForCausalLM" and Renamed.can_generate()


def test_the_file_is_short_enough_to_be_read_next_to_the_paper():
    assert len(inspect.getsource(scratch).splitlines()) <= 250
