"""Continuing prompts in batches, each text a function of model, prompt and seed alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from nutshell.experiment import generation_keys
from nutshell.machine.errors import UserError
from nutshell.models import find as models
from nutshell.models.language import CausalModel, Draw

NOTHING = -100  # stands behind a continuation's last token


@dataclass(frozen=True)
class Request:
    """One continuation to be made.

    Attributes:
        prompt: Its text.
        ids: Its tokens, at least one.
        sample: Which of the prompt's samples this is, from 0; None for the greedy one.
    """

    prompt: str
    ids: list[int]
    sample: int | None


def requests(
    prompts: Sequence[str],
    tokenizer,
    config: dict[str, Any],
    generation: dict[str, Any],
    samples: int = 1,
    greedy: bool = False,
) -> list[Request]:
    """Every continuation that is to be made, prompt by prompt, the greedy one first.

    Args:
        prompts: The texts.
        tokenizer: A tokenizers.Tokenizer.
        config: The model's config.json: its context, its vocabulary and the token that an empty prompt becomes.
        generation: Keys of GenerationConfig; without do_sample there is one continuation of a prompt.
        samples: How many samples of each prompt.
        greedy: Whether the greedy continuation is wanted beside them.

    Raises:
        UserError: If a prompt is empty and there is no start token, or does not fit into the context, or a token id
            is none of the model's.
    """
    new_tokens, context = generation["max_new_tokens"], models.context(config)
    vocab = config.get("vocab_size", 50257)
    for key in ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens"):
        ids = [token for entry in generation.get(key, []) for token in (entry if isinstance(entry, list) else [entry])]
        if ids and max(ids) >= vocab:
            raise UserError(f"generation.{key}: {max(ids)} is no token; the model's are 0 to {vocab - 1}")
    found = []
    for number, prompt in enumerate(prompts, 1):
        said = f"prompt {number} ({prompt[:40]!r}{'...' * (len(prompt) > 40)})"
        try:
            ids = tokenizer.encode(prompt, add_special_tokens=False).ids or [config.get("bos_token_id")]
        except TypeError:
            raise UserError(f"{said}: is not valid Unicode") from None
        if ids == [None]:
            raise UserError(f"{said}: is empty, and the model has no start token to begin a text with")
        if context is not None and len(ids) > context:
            raise UserError(
                f"{said}: has {len(ids)} tokens, {len(ids) - context} more than the {context} positions of the model"
            )
        if context is not None and len(ids) + new_tokens > context:
            raise UserError(
                f"generation.max_new_tokens: {new_tokens} after the {len(ids)} tokens of {said} do not fit into the "
                f"{context} positions of the model; at most {context - len(ids)}"
            )
        found += [Request(prompt, ids, sample) for sample in generation_keys.kinds(generation, samples, greedy)]
    return found


def extend(
    model: CausalModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: list[Request],
    generation: dict[str, Any],
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Continues a batch of prompts.

    Each sample is drawn by numbers that follow from seed, prompt and sample alone, so that neither the batch nor the
    processes change a text (in fp32; in bf16 the batch changes the logits themselves).

    Args:
        model: In evaluation mode; its config names the one token that ends a text.
        tokenizer: Its tokenizer.
        asked: The batch.
        generation: Keys of GenerationConfig, max_new_tokens among them.
        seed: The run's seed.

    Returns:
        Tokens and what each costs in nats under the model itself (before temperature and the like), both
        (batch, max_new_tokens), up to and without the end of text; NOTHING and 0 behind that.
    """
    device, new_tokens = model.device, generation["max_new_tokens"]
    tokens = torch.full((len(asked), new_tokens), NOTHING, device=device)
    nats = torch.zeros((len(asked), new_tokens), device=device)
    for group in _in_groups(asked, generation):
        tokens[group], nats[group] = _extend(model, tokenizer, [asked[at] for at in group], generation, seed)
    return tokens, nats


def _in_groups(asked: list[Request], generation: dict[str, Any]) -> list[list[int]]:
    """The places of a batch that may be continued together: greedy ones apart from samples, and prompts of different
    lengths apart where the padding would count as text (no_repeat_ngram_size)."""
    apart = bool(generation.get("no_repeat_ngram_size"))
    groups: dict[Any, list[int]] = {}
    for place, request in enumerate(asked):
        groups.setdefault((request.sample is None, len(request.ids) * apart), []).append(place)
    return list(groups.values())


def _extend(model, tokenizer, asked: list[Request], generation: dict[str, Any], seed: int):
    """`extend` for requests that are all greedy or all samples."""
    new_tokens, end = generation["max_new_tokens"], model.config.eos_token_id
    greedy = asked[0].sample is None
    config = GenerationConfig(
        **(_without_sampling(generation) if greedy else generation), pad_token_id=end, eos_token_id=end
    )
    ids, mask = _left_padded([request.ids for request in asked], end, model.device)
    draw = []
    if config.do_sample:
        numbers = numpy.stack([_numbers(seed, request, new_tokens) for request in asked])
        draw = [Draw(torch.from_numpy(numbers), ids.shape[1])]
    out = model.generate(
        ids,
        attention_mask=mask,
        generation_config=config,
        logits_processor=draw,
        **({"tokenizer": tokenizer} if config.stop_strings else {}),
    )
    made = out[:, ids.shape[1] :]
    real = (made == end).cumsum(-1) == 0
    nats = model.token_nats(out, torch.cat([mask, real.to(mask)], -1))[:, ids.shape[1] - 1 :]
    missing = (0, new_tokens - made.shape[1])
    tokens = torch.nn.functional.pad(made.masked_fill(~real, NOTHING), missing, value=NOTHING)
    return tokens, torch.nn.functional.pad(nats, missing)


def row(
    request: Request, tokens: Sequence[int], nats: Sequence[float], tokenizer, generation: dict[str, Any]
) -> dict[str, Any]:
    """A continuation as samples.jsonl has it: the prompt apart, special tokens gone, `sample` None if it is greedy,
    `pieces` what its tokens spell, each with its nats."""
    kept = [int(token) for token in tokens if token != NOTHING]
    text = tokenizer.decode(kept, skip_special_tokens=True)
    stopped = any(stop in text for stop in generation.get("stop_strings", []))
    return {
        "prompt": request.prompt,
        "sample": request.sample,
        "continuation": text,
        "tokens": len(kept),
        "mean_nats": float(sum(nats[: len(kept)]) / len(kept)) if kept else None,
        "pieces": _pieces(kept, nats, tokenizer),
        "ended": "finished" if stopped or len(kept) < generation["max_new_tokens"] else "cut",
    }


def _pieces(tokens: list[int], nats: Sequence[float], tokenizer) -> list[tuple[str, float]]:
    """What each token spells and costs; tokens that are one character only together are one piece, with their mean."""
    pieces, first = [], 0
    for end in range(1, len(tokens) + 1):
        text = tokenizer.decode(tokens[first:end], skip_special_tokens=True)
        if not text.endswith("\ufffd") or end == len(tokens):
            pieces.append((text, round(float(sum(nats[first:end])) / (end - first), 4)))
            first = end
    return pieces


def _without_sampling(generation: dict[str, Any]) -> dict[str, Any]:
    shaping = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
    return {key: value for key, value in generation.items() if key not in (*shaping, "do_sample")}


def _numbers(seed: int, request: Request, count: int) -> numpy.ndarray:
    prompt = int.from_bytes(hashlib.sha256(request.prompt.encode()).digest()[:8], "big")
    return numpy.random.default_rng([seed, prompt, request.sample]).random(count)


def _left_padded(rows: list[list[int]], padding: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[padding] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
