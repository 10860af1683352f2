"""Continues prompts in batches; each text is a function of model, prompt and seed alone."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from tokenizers.decoders import DecodeStream
from transformers import GenerationConfig, PreTrainedTokenizerBase, TrainerCallback

from nutshell.machine.files import read_lines, write_lines
from nutshell.models.language.causal import CausalModel, Costs, Draw
from nutshell.runs.generation.prompts import Request
from nutshell.runs.trainer.exact import UntrainedTrainer

NOTHING = -100  # after a continuation's last token


class GenerateTrainer(UntrainedTrainer):
    """Trainer whose prediction is a continuation: a batch holds the places of its requests.

    Args:
        model, args: As UntrainedTrainer has them.
        requests: The continuations, by place.
        generation: Keys of GenerationConfig.
        tokenizer: The model's.
    """

    predicting = "generating"

    def __init__(self, model, args, requests: Sequence[Request], generation: dict[str, Any], tokenizer, callbacks):
        super().__init__(model, args, processing_class=tokenizer, callbacks=callbacks)
        self.requests, self.generation = requests, generation

    def answer(self, model, places):
        """Tokens and nats, (batch, max_new_tokens), and the ends (batch,)."""
        batch = [self.requests[place] for place in places]
        return extend(model, self.processing_class, batch, self.generation, self.args.seed)


class Samples(TrainerCallback):
    """Continues the prompts of `samples:` at each evaluation and keeps the texts, with their step, in samples.jsonl."""

    def __init__(self, requests: Sequence[Request], generation: dict[str, Any], tokenizer):
        self.requests, self.generation, self.tokenizer = requests, generation, tokenizer

    def on_train_begin(self, args, state, control, **kwargs):
        """Removes what an earlier launch wrote after the checkpoint that is resumed from."""
        if state.is_world_process_zero:
            file = Path(args.output_dir) / "samples.jsonl"
            write_lines(file, [row for row in read_lines(file) if row["step"] <= state.global_step])

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        """Continues every prompt on every process: where the model is divided among them, one cannot do it alone."""
        file, training = Path(args.output_dir) / "samples.jsonl", model.training
        model.eval()
        columns = extend(model, self.tokenizer, self.requests, self.generation, args.seed)
        model.train(training)
        rows = [
            {"step": state.global_step, **row(*one, self.tokenizer, self.generation)}
            for one in zip(self.requests, *(column.tolist() for column in columns), strict=True)
        ]
        if state.is_world_process_zero:
            earlier = [row for row in read_lines(file) if row["step"] < state.global_step]  # one may be evaluated again
            write_lines(file, earlier + rows)


def extend(
    model: CausalModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    generation: dict[str, Any],
    seed: int,
    listen: Callable[[torch.Tensor, torch.Tensor], None] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Continues a batch of prompts.

    Each sample is drawn by numbers that follow from seed, prompt and sample alone, so that neither the batch nor the
    processes change a text (in fp32; in bf16 the batch changes the logits themselves).

    Args:
        model: In evaluation mode; its config names the one token that ends a text.
        tokenizer: Its tokenizer.
        requests: The batch.
        generation: Keys of GenerationConfig, max_new_tokens among them.
        seed: The run's seed.
        listen: Is given each step's tokens and nats, (batch,) each, as they are made, of requests of one kind without
            beams.

    Returns:
        Tokens and what each costs in nats under the model itself (before temperature and the like), both
        (batch, max_new_tokens), up to and without what ends the text; NOTHING and 0 after that. And the tokens that
        ended the texts, (batch,), NOTHING where none did.
    """
    device, new_tokens = model.device, generation["max_new_tokens"]
    tokens = torch.full((len(requests), new_tokens), NOTHING, device=device)
    nats = torch.zeros((len(requests), new_tokens), device=device)
    ends = torch.full((len(requests),), NOTHING, device=device)
    for group in _in_groups(requests, generation):
        batch = [requests[at] for at in group]
        tokens[group], nats[group], ends[group] = _extend(model, tokenizer, batch, generation, seed, listen)
    return tokens, nats, ends


def _in_groups(requests: Sequence[Request], generation: dict[str, Any]) -> list[list[int]]:
    """The places of a batch that may be continued together: greedy ones apart from samples, and prompts of different
    lengths apart where the padding would count as text (no_repeat_ngram_size)."""
    apart = bool(generation.get("no_repeat_ngram_size"))
    groups: dict[Any, list[int]] = {}
    for place, request in enumerate(requests):
        groups.setdefault((request.sample is None, len(request.ids) * apart), []).append(place)
    return list(groups.values())


def _extend(model, tokenizer, requests: Sequence[Request], generation: dict[str, Any], seed: int, listen):
    """`extend` for requests that are all greedy or all samples."""
    new_tokens, end = generation["max_new_tokens"], model.config.eos_token_id
    every_end, greedy = sorted({end, *requests[0].ends}), requests[0].sample is None
    config = GenerationConfig(
        **(_without_sampling(generation) if greedy else generation), pad_token_id=end, eos_token_id=every_end
    )
    ids, mask = _left_padded([request.ids for request in requests], end, model.device)
    costs = None if (config.num_beams or 1) > 1 else Costs(listen)  # a beam's past may become another's
    processors = [costs] if costs else []
    if config.do_sample:
        numbers = numpy.stack([_numbers(seed, request, new_tokens) for request in requests])
        processors.append(Draw(torch.from_numpy(numbers), ids.shape[1]))
    out = model.generate(
        ids,
        attention_mask=mask,
        generation_config=config,
        logits_processor=processors,
        **({"tokenizer": tokenizer} if config.stop_strings else {}),
    )
    new = out[:, ids.shape[1] :]
    over = torch.isin(new, torch.tensor(every_end, device=new.device))
    real = over.cumsum(-1) == 0
    if costs:
        nats = costs.end(out)[:, : new.shape[1]].masked_fill(~real, 0.0)
    else:
        nats = model.token_nats(out, torch.cat([mask, real.to(mask)], -1))[:, ids.shape[1] - 1 :]
    first = over.int().argmax(-1, keepdim=True)
    ends = new.gather(-1, first)[:, 0].masked_fill(~over.any(-1), NOTHING)
    missing = (0, new_tokens - new.shape[1])
    tokens = torch.nn.functional.pad(new.masked_fill(~real, NOTHING), missing, value=NOTHING)
    return tokens, torch.nn.functional.pad(nats, missing), ends


def tell(
    model: CausalModel,
    tokenizer: PreTrainedTokenizerBase,
    request: Request,
    generation: dict[str, Any],
    seed: int,
    listen: Callable[[str, float], None] | None,
) -> dict[str, Any]:
    """The row of one continuation, each of whose pieces is told as soon as it is there whole.

    Args:
        model, tokenizer, request, generation, seed: As `extend` has them.
        listen: Is given each piece and its nats; None: nobody is told.
    """
    pieces, ends = Pieces(tokenizer, request, listen), {model.config.eos_token_id, *request.ends}

    def hear(tokens: torch.Tensor, nats: torch.Tensor) -> None:
        if tokens.item() not in ends:
            pieces.add(tokens.item(), nats.item())

    columns = extend(model, tokenizer, [request], generation, seed, hear)
    pieces.close()
    (one,) = zip(*(column.tolist() for column in columns), strict=True)
    return row(request, *one, tokenizer, generation)


def row(
    request: Request, tokens: Sequence[int], nats: Sequence[float], end: int, tokenizer, generation: dict[str, Any]
) -> dict[str, Any]:
    """A continuation as a row of samples.jsonl: the prompt is separate, special tokens are left out, `sample` is None
    if it is greedy, `pieces` are the texts of its tokens, each with its nats, `ended_by` is the token or the stop
    string that ended it, None where it was cut."""
    kept, pieces = [int(token) for token in tokens if token != NOTHING], Pieces(tokenizer, request)
    for token, cost in zip(kept, nats, strict=False):
        pieces.add(token, float(cost))
    pieces.close()
    text = "".join(text for text, _ in pieces.whole)
    ended_by = tokenizer.convert_ids_to_tokens(int(end)) if end != NOTHING else None
    for stop in generation.get("stop_strings", []):  # after which it was padded with the end of text
        before = tokenizer.decode(request.ids[-len(stop) :])  # it may begin in the prompt
        if stop in (before[1 - len(stop) :] if stop[1:] else "") + text:
            ended_by = stop
            break
    return {
        "prompt": request.prompt,
        **({"messages": request.messages} if request.messages else {}),
        "sample": request.sample,
        "continuation": text,
        "tokens": len(kept),
        "mean_nats": float(sum(nats[: len(kept)]) / len(kept)) if kept else None,
        "pieces": pieces.whole,
        "ended": "cut" if ended_by is None else "finished",
        "ended_by": ended_by,
    }


class Pieces:
    """The texts of tokens, as the tokens come. Those that spell one character only together are one piece, with their
    mean nats; special ones spell nothing.

    Args:
        tokenizer: The model's.
        request: What the tokens continue.
        listen: Is given each piece and its nats.
    """

    def __init__(self, tokenizer, request: Request, listen: Callable[[str, float], None] | None = None):
        self.whole: list[tuple[str, float]] = []
        self._tokenizer, self._listen = tokenizer.backend_tokenizer, listen
        self._stream = DecodeStream(ids=request.ids, skip_special_tokens=True)
        self._waiting: list[tuple[int, float]] = []

    def add(self, token: int, nats: float) -> None:
        """Takes the next token."""
        self._waiting.append((token, nats))
        if (text := self._stream.step(self._tokenizer, token)) is not None:
            self._put(text)

    def close(self) -> None:
        """Takes what is left as a piece: a character that was not finished is shown as U+FFFD."""
        if self._waiting:
            self._put(self._tokenizer.decode([token for token, _ in self._waiting], skip_special_tokens=True))

    def _put(self, text: str) -> None:
        mean = round(sum(nats for _, nats in self._waiting) / len(self._waiting), 4)
        self.whole.append((text, mean))
        self._waiting.clear()
        if self._listen:
            self._listen(text, mean)


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
