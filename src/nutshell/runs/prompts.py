"""Which continuations a prompt gets, checked with the tokenizer and the config alone, without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nutshell.experiment.generation_keys import kinds
from nutshell.machine.errors import UserError
from nutshell.models.language.architectures import complete, context


@dataclass(frozen=True)
class Request:
    """One continuation.

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
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
    samples: int = 1,
    greedy: bool = False,
) -> list[Request]:
    """Every continuation of these prompts, prompt by prompt, the greedy one first.

    Args:
        prompts: The texts.
        tokenizer: A tokenizers.Tokenizer.
        config: The model's config.json: its context, its vocabulary and the token that an empty prompt becomes.
        generation: Keys of GenerationConfig; without do_sample there is one continuation of a prompt.
        samples: How many samples of each prompt.
        greedy: Whether there is a greedy continuation next to them.

    Raises:
        UserError: If a prompt is empty and there is no start token, or does not fit into the context, or a token id
            is not in the model's vocabulary.
    """
    config = complete(config)
    vocab = config["vocab_size"]
    for key in ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens"):
        ids = [token for entry in generation.get(key, []) for token in (entry if isinstance(entry, list) else [entry])]
        if ids and max(ids) >= vocab:
            raise UserError(f"generation.{key}: {max(ids)} is no token; the model's are 0 to {vocab - 1}")
    start = config.get("bos_token_id")
    every = []
    for number, prompt in enumerate(prompts, 1):
        name = f'prompt {number} ("{prompt[:40]}{"..." * (len(prompt) > 40)}")'
        try:
            ids = tokenizer.encode(prompt, add_special_tokens=False).ids or [start]
        except TypeError:
            raise UserError(f"prompt {number}: is not valid Unicode") from None
        if ids == [None]:
            raise UserError(f"{name}: is empty, and the model has no start token to begin a text with")
        _check_length(name, len(ids), generation["max_new_tokens"], context(config))
        every += [Request(prompt, ids, sample) for sample in kinds(generation, samples, greedy)]
    return every


def _check_length(name: str, tokens: int, new_tokens: int, most: int | None) -> None:
    if most is None:
        return
    if tokens > most:
        raise UserError(f"{name}: has {tokens} tokens, {tokens - most} more than the {most} positions of the model")
    if tokens + new_tokens > most:
        raise UserError(
            f"generation.max_new_tokens: {new_tokens} after the {tokens} tokens of {name} do not fit into the {most} "
            f"positions of the model; at most {most - tokens}"
        )
