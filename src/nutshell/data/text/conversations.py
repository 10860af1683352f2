"""Prompts: texts, or conversations in the usual form, a list of messages each with its role and content."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from nutshell.data.encoding.vocabularies import Vocabulary
from nutshell.data.readers import rows as readers
from nutshell.data.readers.table import text_of
from nutshell.data.text.documents import read_text
from nutshell.experiment.yaml_text import shown
from nutshell.machine.errors import UserError
from nutshell.machine.files import first_line, read_json

Messages = list[dict[str, str]]
Prompt = str | Messages
ROLES = ("system", "user", "assistant")
JSON = (".jsonl", ".json")


def problem(messages: Any) -> str | None:
    """What is wrong with the messages of a conversation that a model is to answer, or None."""
    if not isinstance(messages, list) or not messages:
        return f"messages: expected a list of at least one {{role, content}}, not {shown(messages)}"
    for number, message in enumerate(messages, 1):
        place = f"messages, entry {number}:"
        if not isinstance(message, dict):
            return f"{place} expected a mapping with role and content, not {shown(message)}"
        for key in ("role", "content"):
            if message.get(key) is None:
                return f"{place} {key} is missing"
        if unknown := [key for key in message if key not in ("role", "content")]:
            return f"{place} {shown(unknown[0])} is not known; a message has role and content"
        if message["role"] not in ROLES:
            return f"{place} role: expected one of {', '.join(ROLES)}, not {shown(message['role'])}"
        if not isinstance(message["content"], str):
            return f"{place} content: expected text, not {shown(message['content'])}"
        if any("\ud800" <= sign <= "\udfff" for sign in message["content"]):  # JSON can hold halves of a character
            return f"{place} content: is not valid Unicode"
    if messages[-1]["role"] != "user":
        return f"messages: the last one is the {messages[-1]['role']}'s; end with the user's, which the model answers"
    return None


def readable(messages: Messages) -> str:
    """The conversation up to where the model's answer begins, for people to read."""
    turns = [f"{message['role']}: {message['content']}" for message in messages]
    return "\n".join([*turns, "assistant: "])


def among(prompts: Sequence[str | dict[str, Any]] | str) -> bool:
    """Whether there may be conversations among prompts, as an experiment states them."""
    if isinstance(prompts, str):
        return readers.suffix(Path(prompts)) in JSON
    return any(isinstance(prompt, dict) for prompt in prompts)


def read_prompts(prompts: Sequence[str | dict[str, Any]] | str) -> list[Prompt]:
    """The prompts themselves, or those of the file that is named: of JSON lines each row's `messages` or `prompt`, of
    another file each line, without blank ones.

    Raises:
        UserError: If the file cannot be read or holds none, or a row of it is no prompt.
    """
    if not isinstance(prompts, str):
        return [prompt if isinstance(prompt, str) else prompt["messages"] for prompt in prompts]
    file = Path(prompts).expanduser()
    if readers.suffix(file) in JSON:
        every = [_of_row(place, row) for place, row in readers.read(file).rows]
        if not every:
            raise UserError(f"{file}: is empty")
        return every
    lines = read_text(file).split("\n")
    return [line.removesuffix("\r") for line in lines if line.strip()]


def _of_row(place: str, row: dict[str, Any]) -> Prompt:
    if "messages" not in row:
        if "prompt" not in row:
            raise UserError(f"{place} has columns {readers.names([*row])}; expected messages, or prompt with a text")
        return text_of(place, row, "prompt", may_be_empty=True)
    if "prompt" in row:
        raise UserError(f"{place} has both messages and prompt; state one of them")
    if reason := problem(row["messages"]):
        raise UserError(f"{place} {reason}")
    return row["messages"]


class Chat:
    """How a checkpoint holds a conversation: its chat template, and the tokens that end what it writes.

    Args:
        checkpoint: A folder that models.find has passed.
        vocabulary: Its tokenizer.
    """

    def __init__(self, checkpoint: Path, vocabulary: Vocabulary):
        self.checkpoint, self.vocabulary = checkpoint, vocabulary

    @cached_property
    def _tokenizer(self):
        from transformers.tokenization_utils_tokenizers import TokenizersBackend  # as AutoTokenizer, but without torch

        try:
            tokenizer = TokenizersBackend.from_pretrained(self.checkpoint)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = first_line(error)
            raise UserError(f"{self.checkpoint}: transformers cannot load its tokenizer: {reason}") from None
        if not tokenizer.chat_template:
            raise UserError(
                f"{self.checkpoint}: has no chat template (chat_template.jinja), by which messages are written down; "
                "continue a text, or name a model that was trained to answer"
            )
        return tokenizer

    def encode(self, messages: Messages, name: str) -> list[int]:
        """The tokens of a conversation up to where the model's answer begins. What a message spells out, such as
        <|im_end|>, is text there: only the template ends a turn.

        Args:
            messages: Of which `problem` finds none.
            name: What a message calls them.

        Raises:
            UserError: If the checkpoint has no chat template, or one that refuses the conversation.
        """
        from jinja2 import TemplateError

        tokenizer = self._tokenizer
        try:
            return tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, sanitize_control_tokens=True, return_dict=False
            )
        except (TemplateError, ValueError, TypeError) as error:
            reason = first_line(error)
            raise UserError(f"{name}: the chat template of {self.checkpoint} refuses it: {reason}") from None

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a continuation, next to the one that ends a document: what tokenizer_config.json calls
        eos_token, and those of generation_config.json. A model that was trained to answer also ends a text that is no
        conversation with the end of a turn, and would write somebody else's turn after it."""
        file = self.checkpoint / "generation_config.json"
        stated = read_json(file).get("eos_token_id") if file.exists() else None
        every = [self.vocabulary.own_end_of_text, *(stated if isinstance(stated, list) else [stated])]
        return tuple(sorted({token for token in every if isinstance(token, int) and 0 <= token < len(self.vocabulary)}))
