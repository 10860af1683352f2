"""One prompt, continued piece by piece: the code of `task: generate` with somebody who listens."""

import logging
import sys
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from nutshell.data.text import conversations
from nutshell.data.text.conversations import Prompt
from nutshell.experiment.blocks import Checkpoint, Experiment, Positive
from nutshell.experiment.checks import blocks_of, checks
from nutshell.experiment.problems import explain
from nutshell.experiment.yaml_text import shown
from nutshell.machine import progress
from nutshell.machine.errors import UserError, plural
from nutshell.models.find import read_config
from nutshell.models.language.architectures import context
from nutshell.runs.generation import prompts

logger = logging.getLogger("nutshell")

OPTIONS = {
    "model.name": "--model",
    "model.revision": "--revision",
    "generation.max_new_tokens": "--max-new-tokens",
    "generation.temperature": "--temperature",
}
MOST_TOKENS = 200  # unless more or less is stated


class Question(Experiment):
    """What a program asks, checked as the same keys of an experiment are."""

    model: Checkpoint
    samples: Positive
    generation: dict[str, Any]


def ask(
    prompt: Prompt,
    model: str = "smollm2",
    revision: str | None = None,
    *,
    samples: int = 1,
    seed: int = 0,
    generation: dict[str, Any] | None = None,
    begin: Callable[[int | None], None] = lambda sample: None,
    listen: Callable[[str, float], None] | None = None,
) -> list[dict[str, Any]]:
    """Continues one prompt, its samples one after another, each the text that `task: generate` gives.

    Args:
        prompt: A text to continue, or the messages of a conversation to answer: [{"role": "user", "content": "Hi"}].
        model, revision: As `model.name` and `model.revision` have them.
        samples: How many texts; without do_sample there is one, the most likely.
        seed: Of the random numbers.
        generation: Keys of GenerationConfig; without max_new_tokens at most 200, as far as the model's context reaches.
        begin: Is given each sample's number when it begins, None for the most likely text.
        listen: Is given each piece and its nats, once it is there whole.

    Returns:
        A row for each text, as samples.jsonl has it.

    Raises:
        UserError: If a prompt or a key is not what it should be, the model cannot be loaded, the prompt does not fit
            into it, or somebody listens to beams, of whose tokens none is sure before the last.
    """
    generation = {} if generation is None else generation
    _check(prompt, model, revision, samples, seed, generation)
    if listen and generation.get("num_beams", 1) > 1:
        raise UserError("generation.num_beams: a beam's tokens are not told as they come; leave out listen, or beams")
    settings = {"max_new_tokens": max(1, generation.get("min_new_tokens", 0)), **generation}
    checkpoint, requests = prompts.load(model, revision, [prompt], settings, samples)
    if "max_new_tokens" not in generation:
        most = context(read_config(checkpoint))
        settings["max_new_tokens"] = MOST_TOKENS if most is None else min(MOST_TOKENS, most - len(requests[0].ids))
    import torch
    from transformers import AutoTokenizer

    from nutshell.models.language import build
    from nutshell.runs.generation import texts as generating

    progress.silence_transformers()
    loaded = build.load(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    rows = []
    for request in requests:
        begin(request.sample)
        with torch.no_grad():
            rows.append(generating.tell(loaded, tokenizer, request, settings, seed, listen))
    return rows


def _check(prompt: Any, model: Any, revision: Any, samples: Any, seed: Any, generation: Any) -> None:
    """Passes what an experiment of task: generate may say, too."""
    if not isinstance(prompt, str):
        reason = f"expected a text or a list of messages, not {shown(prompt)}"
        if reason := conversations.problem(prompt) if isinstance(prompt, list) else reason:
            raise UserError(f"prompt: {reason}")
    about = {"name": model} | ({} if revision is None else {"revision": revision})
    plain = {"task": "ask", "seeds": [seed], "model": about, "samples": samples, "generation": generation}
    try:
        Question.model_validate(plain)
    except ValidationError as error:
        path, problem = explain(error.errors()[0], Question, plain)
        raise UserError(problem.replace("seeds.0", "seed") if path[0] == "seeds" else problem) from None
    for _, problem in checks(plain, blocks_of({"generation": {"max_new_tokens": MOST_TOKENS, **generation}}), {}):
        raise UserError(problem)
    if samples > 1 and not generation.get("do_sample"):
        raise UserError(f"samples: without generation.do_sample the {samples} texts would be equal")


def ask_here(
    prompt: str,
    model: str,
    revision: str | None,
    *,
    chat: bool,
    samples: int,
    temperature: float,
    max_new_tokens: int | None,
    seed: int,
) -> None:
    """What the command does: prints the texts as they come, then what they cost.

    Args:
        prompt: A text; `-` is standard input.
        chat: Whether it is a question to be answered by the model's chat template.
        temperature: 0 takes the most likely token each time.

    Raises:
        UserError: As `ask`, in the command's words; or if the prompt is not valid Unicode.
    """
    from nutshell.report import terminal  # with scipy, which `import nutshell` needs not

    if temperature == 0 and samples > 1:
        raise UserError("--samples: at --temperature 0 the texts would be equal")
    text = _text(prompt)
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {}
    length = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    stream = terminal.Stream(text, chat, samples > 1)
    try:
        rows = ask(
            [{"role": "user", "content": text}] if chat else text,
            model,
            revision,
            samples=samples,
            seed=seed,
            generation=sampling | length,
            begin=stream.begin,
            listen=stream.add,
        )
    except UserError as error:
        reason = str(error)
        for word, option in OPTIONS.items():
            reason = reason.replace(word, option)
        raise UserError(reason) from None
    finally:
        if stream.begun:
            stream.end()
    for row in rows:
        cost = "" if row["mean_nats"] is None else f", {row['mean_nats']:.2f} nats per token"
        end = "cut at --max-new-tokens" if row["ended_by"] is None else f"ended by {row['ended_by']}"
        logger.info("%s%s, %s", plural(row["tokens"], "token"), cost, end)


def _text(prompt: str) -> str:
    if prompt == "-":
        try:
            prompt = sys.stdin.buffer.read().decode("utf-8-sig").removesuffix("\n")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input: not UTF-8 text: byte {error.object[error.start]:#04x}") from None
    if any("\ud800" <= sign <= "\udfff" for sign in prompt):  # a byte of the command line that is no UTF-8
        raise UserError("the prompt is not valid Unicode")
    return prompt
