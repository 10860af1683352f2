"""Continues prompts in batches; each text is a function of model, prompt and seed alone."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase, TrainerCallback

from nutshell.machine.files import read_lines, write_lines
from nutshell.models.language.causal import CausalModel, Draw
from nutshell.runs.prompts import Request
from nutshell.runs.trainer.exact import ExactTrainer

NOTHING = -100  # after a continuation's last token
PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class GenerateTrainer(ExactTrainer):
    """Trainer whose prediction is a continuation: a batch holds the places of its requests.

    Args:
        model: In fp32.
        args: The run's; its precision is that of the weights too, since nothing is trained and autocast would cast them
            again for every token.
        requests: The continuations, by place.
        generation: Keys of GenerationConfig.
        tokenizer: The model's.
    """

    predicting = "generating"

    def __init__(self, model, args, requests: Sequence[Request], generation: dict[str, Any], tokenizer, callbacks):
        super().__init__(
            model.to(PRECISIONS[args.mixed_precision]),
            args,
            data_collator=lambda places: {"places": torch.tensor(places)},
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        self.requests, self.generation = requests, generation

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Tokens and nats, (batch, max_new_tokens), and (batch,) the requests' places."""
        places = inputs["places"].to(self.args.device)
        batch = [self.requests[place] for place in places.tolist()]
        with torch.no_grad(), torch.autocast(self.args.device.type, enabled=False):  # the weights are cast already
            unwrapped = self.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
            tokens, nats = extend(unwrapped, self.processing_class, batch, self.generation, self.args.seed)
        return None, (tokens, nats), places


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
        tokens, nats = extend(model, self.tokenizer, self.requests, self.generation, args.seed)
        model.train(training)
        rows = [
            {"step": state.global_step, **row(*one, self.tokenizer, self.generation)}
            for one in zip(self.requests, tokens.tolist(), nats.tolist(), strict=True)
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
) -> tuple[torch.Tensor, torch.Tensor]:
    """Continues a batch of prompts.

    Each sample is drawn by numbers that follow from seed, prompt and sample alone, so that neither the batch nor the
    processes change a text (in fp32; in bf16 the batch changes the logits themselves).

    Args:
        model: In evaluation mode; its config names the one token that ends a text.
        tokenizer: Its tokenizer.
        requests: The batch.
        generation: Keys of GenerationConfig, max_new_tokens among them.
        seed: The run's seed.

    Returns:
        Tokens and what each costs in nats under the model itself (before temperature and the like), both
        (batch, max_new_tokens), up to and without the end of text; NOTHING and 0 after that.
    """
    device, new_tokens = model.device, generation["max_new_tokens"]
    tokens = torch.full((len(requests), new_tokens), NOTHING, device=device)
    nats = torch.zeros((len(requests), new_tokens), device=device)
    for group in _in_groups(requests, generation):
        tokens[group], nats[group] = _extend(model, tokenizer, [requests[at] for at in group], generation, seed)
    return tokens, nats


def _in_groups(requests: Sequence[Request], generation: dict[str, Any]) -> list[list[int]]:
    """The places of a batch that may be continued together: greedy ones apart from samples, and prompts of different
    lengths apart where the padding would count as text (no_repeat_ngram_size)."""
    apart = bool(generation.get("no_repeat_ngram_size"))
    groups: dict[Any, list[int]] = {}
    for place, request in enumerate(requests):
        groups.setdefault((request.sample is None, len(request.ids) * apart), []).append(place)
    return list(groups.values())


def _extend(model, tokenizer, requests: Sequence[Request], generation: dict[str, Any], seed: int):
    """`extend` for requests that are all greedy or all samples."""
    new_tokens, end = generation["max_new_tokens"], model.config.eos_token_id
    greedy = requests[0].sample is None
    config = GenerationConfig(
        **(_without_sampling(generation) if greedy else generation), pad_token_id=end, eos_token_id=end
    )
    ids, mask = _left_padded([request.ids for request in requests], end, model.device)
    draw = []
    if config.do_sample:
        numbers = numpy.stack([_numbers(seed, request, new_tokens) for request in requests])
        draw = [Draw(torch.from_numpy(numbers), ids.shape[1])]
    out = model.generate(
        ids,
        attention_mask=mask,
        generation_config=config,
        logits_processor=draw,
        **({"tokenizer": tokenizer} if config.stop_strings else {}),
    )
    new = out[:, ids.shape[1] :]
    real = (new == end).cumsum(-1) == 0
    nats = model.token_nats(out, torch.cat([mask, real.to(mask)], -1))[:, ids.shape[1] - 1 :]
    missing = (0, new_tokens - new.shape[1])
    tokens = torch.nn.functional.pad(new.masked_fill(~real, NOTHING), missing, value=NOTHING)
    return tokens, torch.nn.functional.pad(nats, missing)


def row(
    request: Request, tokens: Sequence[int], nats: Sequence[float], tokenizer, generation: dict[str, Any]
) -> dict[str, Any]:
    """A continuation as a row of samples.jsonl: the prompt is separate, special tokens are left out, `sample` is None
    if it is greedy, `pieces` are the texts of its tokens, each with its nats."""
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
    """The text and nats of each token; tokens that spell one character only together are one piece, with their mean."""
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
