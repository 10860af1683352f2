"""What given continuations of prompts cost, each prompt read once: what prompts share is read once for all of them."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from nutshell.models.language.causal import CausalModel

Tokens = Sequence[int] | numpy.ndarray


@dataclass
class Past:
    """What rows have read.

    Attributes:
        cache: The model's keys and values, or its state; None before anything was read.
        mask: (batch, tokens), 0 where a row is padded.
    """

    cache: Any
    mask: torch.Tensor

    def rows(self, places: Sequence[int]) -> "Past":
        """That of these rows, which may be there several times; this one is used up."""
        index = torch.tensor(places, device=self.mask.device)
        if self.cache is not None and places != list(range(len(self.mask))):
            self.cache.reorder_cache(index)
        return Past(self.cache, self.mask[index])


def looks_back_by_places(model: CausalModel) -> bool:
    """Whether a layer sees a fixed number of places before a token: padding in the middle of a row would be some of
    them, so that nothing may be read before rows of different lengths."""
    return any(getattr(model.config, key, None) is not None for key in ("sliding_window", "window_size"))


def nothing(batch: int, device) -> Past:
    """The past of rows that have read nothing."""
    return Past(None, torch.zeros(batch, 0, dtype=torch.long, device=device))


def read(model: CausalModel, past: Past, rows: Sequence[Tokens], keep: int = 1) -> tuple[Past, torch.Tensor]:
    """Reads more tokens.

    Args:
        model: In evaluation mode.
        past: What the rows have read; is used up.
        rows: The tokens of each that come next; not all of them none.
        keep: How many last tokens of each get logits.

    Returns:
        What they have read then, and logits (batch, keep, vocab) of what follows their last tokens.
    """
    width, device = max(map(len, rows)), past.mask.device
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):  # on the left, so that the last tokens are in one place
        ids[place, width - len(row) :] = torch.as_tensor(numpy.asarray(row, numpy.int64))
        mask[place, width - len(row) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    positions = (past.mask.sum(1, keepdim=True) + mask.cumsum(1) - 1).clamp(min=0)
    mask = torch.cat([past.mask, mask], 1)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=past.cache,
        use_cache=True,
        logits_to_keep=keep,
    )
    return Past(out.past_key_values, mask), out.logits


def continuation_nats(
    model: CausalModel, head: Past | None, prompts: Sequence[Sequence[Tokens]], answers: Sequence[Sequence[Tokens]]
) -> torch.Tensor:
    """-ln p(answer | prompt), the sum over the answer's tokens, of prompts that begin alike.

    Args:
        model: In evaluation mode, without gradients.
        head: One row that has read what all prompts begin with; None: nothing, as where the model
            `looks_back_by_places`.
        prompts: Of each example one or more, (batch, prompts) rows of tokens, at least one each beyond the head.
        answers: For each of an example's prompts the answers, (prompts, answers) rows of tokens; as many of each.

    Returns:
        (batch, prompts, answers) nats, fp32.
    """
    first = 0 if head is None else head.mask.shape[1]
    fed = [  # of each example: the distinct rows that are read, and which of them leads to each answer
        [[numpy.concatenate([ids, numpy.asarray(answer[:-1], numpy.int32)]) for answer in own] for ids, own in pairs]
        for pairs in (list(zip(row, answers, strict=True)) for row in prompts)
    ]
    trunks = []
    for row, branches in zip(prompts, fed, strict=True):
        shared = common([ids for own in branches for ids in own])
        trunks.append(max(first, min(shared, min(map(len, row)) - 1)))
    past = nothing(len(prompts), model.device) if head is None else copy.deepcopy(head).rows([0] * len(prompts))
    if max(trunks) > first:
        rows = [branches[0][0][first:end] for branches, end in zip(fed, trunks, strict=True)]
        past, _ = read(model, past, rows)
    # What is left of each prompt and answer, by its length, so that nothing is padded: the answers that it leads to.
    rest: dict[int, dict[tuple[int, tuple[int, ...]], list[tuple[int, int]]]] = {}
    for example, branches in enumerate(fed):
        for prompt, own in enumerate(branches):
            for answer, ids in enumerate(own):
                row = tuple(ids[trunks[example] :].tolist())
                rest.setdefault(len(row), {}).setdefault((example, row), []).append((prompt, answer))
    nats = torch.zeros(len(prompts), len(answers), len(answers[0]))
    while rest:
        _, alike = rest.popitem()
        start = copy.deepcopy(past) if rest else past
        keep = max(len(answers[prompt][answer]) for leads in alike.values() for prompt, answer in leads)
        _, logits = read(model, start.rows([example for example, _ in alike]), [row for _, row in alike], keep)
        logits = logits.float()
        costs = logits.logsumexp(-1)  # (rows, keep); less the logit of a token it is that token's nats
        for row, ((example, _), leads) in enumerate(alike.items()):
            for prompt, answer in leads:
                tokens = torch.as_tensor(answers[prompt][answer], device=logits.device)
                at = torch.arange(keep - len(tokens), keep, device=logits.device)
                nats[example, prompt, answer] = (costs[row, at] - logits[row, at, tokens]).sum()
    return nats


def common(rows: Sequence[numpy.ndarray]) -> int:
    """How many tokens rows have in common at their beginning."""
    length = min(map(len, rows))
    for row in rows[1:]:
        differ = numpy.flatnonzero(rows[0][:length] != row[:length])
        length = int(differ[0]) if len(differ) else length
    return length
