"""What every language model here can do beyond its forward pass: say what each token costs, and draw exactly."""

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy
from transformers import GenerationMixin, LogitsProcessor, LogitsProcessorList

ROWS = 128  # of logits at once


class CausalModel(GenerationMixin):
    """Mixed into each causal model, before its stock class."""

    def token_nats(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        scored: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The surprise at each token except the first, -ln p(token | tokens before it); call `eval()` first, or dropout
        is in it.

        The last token is only ever predicted, never fed: a row may be one token longer than the model's context.

        Args:
            input_ids: (batch, tokens).
            attention_mask: (batch, tokens), 0 where a row is padded, left or right; None if none is, or on the right
                alone and `scored` says where: attention is quicker without one.
            scored: (batch, tokens - 1) booleans, whether a token's surprise is needed; None: all. Where no row needs
                it there are no logits.

        Returns:
            (batch, tokens - 1) nats, fp32; 0 where it is not needed, or the token is padding, or the first after it.
        """
        inputs = {"input_ids": input_ids[:, :-1]}
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask[:, :-1]
            inputs["position_ids"] = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, :-1]
        targets = input_ids[:, 1:]
        nats = torch.zeros(targets.shape, device=targets.device)
        scored = torch.ones_like(targets, dtype=torch.bool) if scored is None else scored
        columns = scored.any(0).nonzero().squeeze(1)
        logits = self(**inputs, use_cache=False, logits_to_keep=columns).logits
        # A few rows at a time, in fp32: all logits in fp32, and their logarithms, would be most of the memory.
        rows = [
            cross_entropy(part.float(), target, reduction="none")
            for part, target in zip(
                logits.flatten(0, 1).split(ROWS), targets[:, columns].flatten().split(ROWS), strict=True
            )
        ]
        nats[:, columns] = torch.cat(rows).view(len(nats), -1)
        nats = torch.where(scored, nats, 0.0)
        if attention_mask is not None:
            nats = nats * (attention_mask[:, 1:] * attention_mask[:, :-1])
        return nats

    def _get_logits_processor(self, generation_config, *args, **kwargs) -> LogitsProcessorList:
        """Stock order, but costs are noted first, and the draw comes last: after temperature, top-k, top-p and the
        like."""
        processors = super()._get_logits_processor(generation_config, *args, **kwargs)
        processors.sort(key=lambda processor: (not isinstance(processor, Costs), isinstance(processor, Draw)))
        if processors and isinstance(processors[-1], Draw):
            generation_config.do_sample = False  # one token is left: stock need not draw among all of them again
        return processors


class Costs(LogitsProcessor):
    """Notes what each new token costs under the model itself, from the scores by which it is chosen: what `token_nats`
    would find in a second pass over the text.

    Args:
        listen: Is given each step's tokens and nats, (batch,) each, once the next step begins; the last one's by `end`.
    """

    def __init__(self, listen: Callable[[torch.Tensor, torch.Tensor], None] | None = None):
        self.listen, self.nats, self._scores = listen, [], None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores (batch, vocab) as they are."""
        self._note(input_ids)
        self._scores = scores.float()
        return scores

    def end(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The nats of all new tokens, (batch, new tokens), fp32.

        Args:
            input_ids: (batch, tokens) with the last new one.
        """
        self._note(input_ids)
        return torch.stack(self.nats, 1)

    def _note(self, input_ids: torch.Tensor) -> None:
        if self._scores is not None:
            tokens = input_ids[:, -1]
            nats = self._scores.logsumexp(-1) - self._scores.gather(-1, tokens[:, None])[:, 0]
            self.nats.append(nats)
            if self.listen:
                self.listen(tokens, nats)


class Draw(LogitsProcessor):
    """Chooses the next token of each row by that row's own random numbers, by inversion of the distribution function.

    Stock sampling draws for the whole batch from one global state, so that a text depends on what else is in its
    batch. Here it depends on the row's numbers alone: the scores that it returns leave one token possible.

    Args:
        numbers: (batch, new tokens), uniform in [0, 1).
        prompt_tokens: Tokens of the padded prompts.

    Source: Devroye 1986, "Non-Uniform Random Variate Generation", section III.2.
    """

    def __init__(self, numbers: torch.Tensor, prompt_tokens: int):
        self.numbers, self.prompt_tokens = numbers, prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (batch, vocab) that are 0 at the drawn token and -inf elsewhere."""
        exact = torch.float32 if scores.device.type == "mps" else torch.float64  # the best that the device has
        number = self.numbers[:, input_ids.shape[1] - self.prompt_tokens, None].to(exact).to(scores.device)
        below = scores.to(exact).softmax(-1).cumsum(-1)
        token = torch.searchsorted(below, number * below[:, -1:], right=True)
        last = (below < below[:, -1:]).sum(-1, keepdim=True)  # with a chance at all
        return torch.full_like(scores, -torch.inf).scatter(-1, token.minimum(last), 0.0)
