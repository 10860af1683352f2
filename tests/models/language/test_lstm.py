"""The LSTM: against the gate formulas, against itself with its state handed on, and with padding it must not notice."""

import copy
import itertools
import math

import pytest
import torch
from torch.nn.functional import pad

from nutshell.models.language.own.lstm import LstmConfig, LstmForCausalLM

SIZES = {"vocab_size": 31, "embedding_size": 12, "hidden_size": 16, "num_hidden_layers": 2}
VARIANTS = {
    "tied over a projection": {},
    "tied": {"embedding_size": 16},
    "untied": {"tie_word_embeddings": False},
    "one layer": {"num_hidden_layers": 1},
}
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def build(seed: int = 0, **changes) -> LstmForCausalLM:
    torch.manual_seed(seed)
    model = LstmForCausalLM(LstmConfig(**SIZES | {"initializer_range": 1.0} | changes)).eval()
    # Large weights, or every token would be about as likely as any other and greedy choices a matter of rounding.
    for weight in model.lstm.parameters():
        weight.detach().mul_(4)
    return model


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, SIZES["vocab_size"], shape, generator=torch.Generator().manual_seed(seed))


def padded(lengths: tuple[int, ...], side: str) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Prompts (1, tokens) of these lengths, and the batch and mask that they make when padded to the longest."""
    prompts, width = [draw(1, length, seed=length) for length in lengths], max(lengths)
    gaps = [(width - length, 0) if side == "left" else (0, width - length) for length in lengths]
    ids = torch.cat([pad(prompt, gap) for prompt, gap in zip(prompts, gaps, strict=True)])
    mask = torch.cat([pad(torch.ones_like(prompt), gap) for prompt, gap in zip(prompts, gaps, strict=True)])
    return prompts, ids, mask


def test_one_step_by_the_formulas():
    model, state = build(num_hidden_layers=1, tie_word_embeddings=False), None
    weights = model.lstm.state_dict()
    h, c = torch.zeros(16), torch.zeros(16)
    with torch.no_grad():
        for token in (3, 14):
            x = model.embedding.weight[token]
            gates = weights["weight_ih_l0"] @ x + weights["weight_hh_l0"] @ h
            i, f, g, o = (gates + weights["bias_ih_l0"] + weights["bias_hh_l0"]).split(16)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            output = model(torch.tensor([[token]]), past_key_values=state)
            state = output.past_key_values
            torch.testing.assert_close(output.logits[0, 0], model.lm_head.weight @ h)
            torch.testing.assert_close((state.h[0, 0], state.c[0, 0]), (h, c))
    assert state.h.shape == state.c.shape == (1, 1, 16) and state.get_seq_length() == 2


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
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_neither_real_logits_nor_the_state(variant, side):
    model = build(**variant)
    prompts, ids, mask = padded((3, 7, 1), side)
    with torch.no_grad():
        together = model(ids, attention_mask=mask)
        for row, prompt in enumerate(prompts):
            alone = model(prompt)
            torch.testing.assert_close(together.logits[row][mask[row].bool()], alone.logits[0])
            torch.testing.assert_close(together.past_key_values.h[:, row], alone.past_key_values.h[:, 0])
            torch.testing.assert_close(together.past_key_values.c[:, row], alone.past_key_values.c[:, 0])
            # Padding on the right repeats the output at the last real token, so generate continues from there.
            torch.testing.assert_close(together.logits[row, -1], alone.logits[0, -1])


def test_a_row_of_padding_alone_leaves_its_state_as_it_was():
    model, ids = build(), draw(2, 4)
    mask = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 0]])
    with torch.no_grad():
        fresh = model(ids, attention_mask=mask)
        state = model(draw(2, 3, seed=2)).past_key_values
        later = model(ids, attention_mask=mask, past_key_values=state).past_key_values
    assert fresh.logits.isfinite().all() and not fresh.past_key_values.h[:, 0].any()
    assert torch.equal(later.h[:, 0], state.h[:, 0]) and torch.equal(later.c[:, 0], state.c[:, 0])
    assert not torch.equal(later.h[:, 1], state.h[:, 1])
    assert later.get_seq_length() == 7


@variants
def test_logits_with_the_state_handed_on_are_the_logits_in_one_go(variant):
    model, ids = build(**variant), draw(2, 9)
    mask = torch.ones_like(ids)
    mask[0, :5] = mask[1, 6] = 0  # the first piece is padding alone in one row, a hole is in the last of the other
    with torch.no_grad():
        whole, state, pieces = model(ids, attention_mask=mask, use_cache=False), None, []
        for start, end in ((0, 4), (4, 5), (5, 9)):
            output = model(ids[:, start:end], attention_mask=mask[:, :end], past_key_values=state)
            state = output.past_key_values
            pieces.append(output.logits)
    assert whole.past_key_values is None and state.get_seq_length() == 9
    torch.testing.assert_close(torch.cat(pieces, 1), whole.logits, atol=1e-5, rtol=0)


def test_a_state_may_be_used_twice():
    model, ids = build(), draw(2, 3)
    with torch.no_grad():
        state = model(ids).past_key_values
        kept = copy.deepcopy(state)
        first, second = (model(ids, past_key_values=state).logits for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state.h, kept.h) and torch.equal(state.c, kept.c) and state.tokens == kept.tokens == 3


def test_a_model_in_training_keeps_no_state():
    model, ids = build(), draw(1, 4)
    assert model(ids).past_key_values is not None
    assert model.train()(ids).past_key_values is None


@pytest.mark.parametrize("how", [{}, {"do_sample": True}, {"num_beams": 2}], ids=["greedy", "sampling", "beams"])
def test_generate_with_the_state_draws_the_same_tokens_as_without(how):
    model, (_, ids, mask) = build(), padded((2, 5, 3), "left")
    texts = []
    for use_cache in (True, False):
        torch.manual_seed(5)
        texts.append(
            model.generate(ids, attention_mask=mask, max_new_tokens=8, use_cache=use_cache, pad_token_id=0, **how)
        )
    assert texts[0].shape == (3, 13) and torch.equal(*texts)


def test_beams_reorder_the_state():
    state = build()(draw(3, 4)).past_key_values
    h, c = state.h, state.c
    state.reorder_cache(torch.tensor([2, 2, 0]))
    assert torch.equal(state.h, h[:, [2, 2, 0]]) and torch.equal(state.c, c[:, [2, 2, 0]])


def test_generate_goes_on_from_a_state_that_it_is_given():
    model, ids = build(), draw(1, 6)
    with torch.no_grad():
        state = model(ids[:, :4]).past_key_values
    whole = model.generate(ids, max_new_tokens=8, pad_token_id=0)
    assert torch.equal(model.generate(ids, past_key_values=state, max_new_tokens=8, pad_token_id=0), whole)


@pytest.mark.parametrize("side", ["left", "right"])
def test_greedy_in_a_padded_batch_is_greedy_one_by_one(side):
    model, (prompts, ids, mask) = build(), padded((2, 5, 3), side)
    together = model.generate(ids, attention_mask=mask, max_new_tokens=8, pad_token_id=0)[:, 5:]
    alone = [model.generate(prompt, max_new_tokens=8, pad_token_id=0)[0, prompt.shape[1] :] for prompt in prompts]
    assert torch.equal(together, torch.stack(alone)) and len(together.unique()) > 3


@variants
def test_a_saved_model_comes_back_bit_equal_and_as_tied(variant, tmp_path):
    model, ids = build(**variant), draw(2, 9)
    model.save_pretrained(tmp_path)
    again = LstmForCausalLM.from_pretrained(tmp_path)
    assert (again.lm_head.weight is again.embedding.weight) == variant.get("tie_word_embeddings", True)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    with torch.no_grad():
        assert torch.equal(model(ids).logits, again(ids).logits)


def test_the_loss_is_the_mean_over_predicted_tokens():
    model, ids = build(), draw(3, 8)
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[0, 5:] = labels[1, 0] = labels[2, 3] = -100
    mask[0, 5:] = 0
    with torch.no_grad():
        output = model(ids, attention_mask=mask, labels=labels)
        summed = model(ids, attention_mask=mask, labels=labels, num_items_in_batch=torch.tensor(40)).loss
    nats = [
        -output.logits[row, token - 1].log_softmax(-1)[labels[row, token]].item()
        for row, token in itertools.product(range(3), range(1, 8))
        if labels[row, token] != -100
    ]
    assert len(nats) == 17
    assert output.loss.item() == pytest.approx(sum(nats) / 17, rel=1e-5)
    assert summed.item() == pytest.approx(sum(nats) / 40, rel=1e-5)


def test_padding_takes_no_part_in_the_gradient():
    model, (prompts, ids, mask) = build(), padded((4, 9), "right")
    model(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
    together = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    for prompt in prompts:
        model(prompt, labels=prompt, num_items_in_batch=3 + 8).loss.backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(together[name], weight.grad, atol=1e-5, rtol=1e-4)


def test_initial_weights_are_torchs_but_the_forget_gate_opens():
    torch.manual_seed(0)
    model = LstmForCausalLM(LstmConfig(**SIZES | {"vocab_size": 997}))
    assert model.embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for layer in (0, 1):
        for name in (f"weight_ih_l{layer}", f"weight_hh_l{layer}"):
            weight = getattr(model.lstm, name)
            assert weight.abs().max() <= 1 / math.sqrt(16)
            assert weight.std().item() == pytest.approx(1 / math.sqrt(3 * 16), rel=0.1)
        bias = getattr(model.lstm, f"bias_ih_l{layer}") + getattr(model.lstm, f"bias_hh_l{layer}")
        assert torch.equal(bias[16:32], torch.ones(16))
        assert (torch.cat([bias[:16], bias[32:]]).abs() <= 2 / math.sqrt(16)).all() and bias[:16].any()


def test_parameters_counted_by_hand():
    layers = 4 * 16 * (12 + 16 + 2) + 4 * 16 * (16 + 16 + 2)
    assert build().num_parameters() == 31 * 12 + layers + 16 * 12
    assert build(tie_word_embeddings=False).num_parameters() == 31 * 12 + layers + 31 * 16


def test_autocast_halves_the_logits_but_not_the_loss():
    model, (_, ids, mask) = build(), padded((4, 9), "left")
    with torch.no_grad():
        full = model(ids, attention_mask=mask, labels=ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(ids, attention_mask=mask, labels=ids)
            model.generate(ids, attention_mask=mask, max_new_tokens=2, pad_token_id=0)
    assert (full.logits.dtype, half.logits.dtype, half.loss.dtype) == (torch.float32, torch.bfloat16, torch.float32)
    assert half.loss.item() == pytest.approx(full.loss.item(), rel=0.02)
