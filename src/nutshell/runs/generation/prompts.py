"""Which continuations a prompt gets, checked with the tokenizer and the config alone, without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nutshell.data.encoding import vocabularies
from nutshell.data.text.conversations import Chat, Messages, Prompt, readable
from nutshell.experiment.generation_keys import kinds
from nutshell.machine.errors import UserError
from nutshell.models import headers
from nutshell.models.find import find, read_config
from nutshell.models.language.architectures import CAUSAL, complete, context


@dataclass(frozen=True)
class Request:
    """One continuation.

    Attributes:
        prompt: Its text; of a conversation, what `readable` makes of it.
        ids: Its tokens, at least one.
        sample: Which of the prompt's samples this is, from 0; None for the greedy one.
        messages: Of a conversation; None for a text.
        ends: The tokens that end it, next to the one that ends a text.
    """

    prompt: str
    ids: list[int]
    sample: int | None
    messages: Messages | None = None
    ends: tuple[int, ...] = ()


def load(
    name: str,
    revision: str | None,
    prompts: Sequence[Prompt],
    generation: Mapping[str, Any],
    samples: int = 1,
    greedy: bool = False,
    weights: bool = True,
) -> tuple[Path, list[Request]]:
    """A checkpoint's folder, and the continuations by it.

    Args:
        name, revision, weights: As models.find has them.
        prompts, generation, samples, greedy: As `requests` has them.

    Raises:
        UserError: If the checkpoint cannot be loaded, or for what `requests` refuses.
    """
    checkpoint = find(name, revision, CAUSAL, weights)
    config = read_config(checkpoint)
    vocabulary = vocabularies.of_checkpoint(checkpoint, config)
    headers.check_language_model(checkpoint, config)
    chat = Chat(checkpoint, vocabulary)
    return checkpoint, requests(prompts, vocabulary.tokenizer, config, generation, samples, greedy, chat)


def requests(
    prompts: Sequence[Prompt],
    tokenizer,
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
    samples: int = 1,
    greedy: bool = False,
    chat: Chat | None = None,
) -> list[Request]:
    """Every continuation of these prompts, prompt by prompt, the greedy one first.

    Args:
        prompts: Texts, and the messages of conversations.
        tokenizer: A tokenizers.Tokenizer.
        config: The model's config.json: its context, its vocabulary and the token that an empty prompt becomes.
        generation: Keys of GenerationConfig; without do_sample there is one continuation of a prompt.
        samples: How many samples of each prompt.
        greedy: Whether there is a greedy continuation next to them.
        chat: Of the checkpoint, if there is one.

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
    ends = chat.ends if chat else ()
    every = []
    for number, prompt in enumerate(prompts, 1):
        messages = prompt if isinstance(prompt, list) else None
        text = readable(messages) if messages else prompt
        name = f'prompt {number} ("{" ".join(text[:40].split())}{"..." * (len(text) > 40)}")'
        _check_unicode(text, number)
        _check_kept(text, tokenizer, name)
        ids = chat.encode(messages, name) if messages else _encode(text, tokenizer, start, number, name)
        _check_length(name, len(ids), generation["max_new_tokens"], context(config))
        every += [Request(text, ids, sample, messages, ends) for sample in kinds(generation, samples, greedy)]
    return every


def _encode(text: str, tokenizer, start: int | None, number: int, name: str) -> list[int]:
    """A text's tokens after those that the tokenizer puts before one, not after it."""
    ids = [*vocabularies.start_tokens(tokenizer), *tokenizer.encode(text, add_special_tokens=False).ids] or [start]
    if ids == [None]:
        raise UserError(f"{name}: is empty, and the model has no start token to begin a text with")
    return ids


def _check_unicode(text: str, number: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"prompt {number}: is not valid Unicode") from None


def _check_kept(text: str, tokenizer, name: str) -> None:
    """Passes a text of whose characters none is lost: a byte-level tokenizer leaves out a byte that it has no token
    for, and the model would continue another text."""
    for sign in sorted({*text} - {" ", "\ufffd"}):
        ids = tokenizer.encode(sign, add_special_tokens=False).ids
        if not ids or "\ufffd" in tokenizer.decode(ids, skip_special_tokens=False):
            raise UserError(f"{name}: the model's tokenizer lacks {sign!r} (U+{ord(sign):04X}): leave it out")


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
