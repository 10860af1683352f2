"""A checkpoint's tokenizer, one and the same from reading texts to saving it with a model."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from nutshell.machine.errors import UserError, plural
from nutshell.machine.files import first_line, read_json
from nutshell.models.classifiers import encoders
from nutshell.models.find import read_config


@dataclass(frozen=True)
class Template:
    """What a tokenizer puts around the texts of an example.

    Attributes:
        special: Ids before the first text, between two, after the last.
        special_types: Their token types.
        text_types: The token type of each text.
    """

    special: tuple[list[int], ...]
    special_types: tuple[list[int], ...]
    text_types: tuple[int, ...]


def load_tokenizer(checkpoint: Path) -> tuple[Tokenizer, str]:
    """A checkpoint's tokenizer, with the truncation and padding that may be baked into its file taken off,
    and the sha256 of that file."""
    file = checkpoint / "tokenizer.json"
    try:
        raw = file.read_bytes()
        tokenizer = Tokenizer.from_buffer(raw)
    except OSError:
        raise UserError(f"{checkpoint}: has no tokenizer.json; save one with AutoTokenizer's save_pretrained") from None
    except ValueError as error:
        raise UserError(f"{file}: not a tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, hashlib.sha256(raw).hexdigest()


def template(tokenizer: Tokenizer, texts: int) -> Template:
    """What the tokenizer puts around examples of one or two texts, read off an example.

    Raises:
        UserError: If a text does not begin with a special token, from which encoders read their answer, or two are not
            divided by one.
    """
    try:
        example = tokenizer.encode(*["a"] * texts)
    except Exception as error:  # the tokenizers package raises no other kind
        raise UserError(f"the checkpoint's tokenizer cannot read a text: {error}") from None
    special: list[list[tuple[int, int]]] = [[] for _ in range(texts + 1)]
    text_types, place = [0] * texts, 0
    for number, kind, text in zip(example.ids, example.type_ids, example.sequence_ids, strict=True):
        if text is None:
            special[place].append((number, kind))
        else:
            text_types[text], place = kind, text + 1
    if not all(special):
        raise UserError(
            "the checkpoint's tokenizer.json puts no special tokens before, between and after texts, as BERT's [CLS] "
            "and [SEP]; save it again with AutoTokenizer's save_pretrained"
        )
    ids, types = (tuple([entry[column] for entry in entries] for entries in special) for column in (0, 1))
    return Template(ids, types, tuple(text_types))


def check(checkpoint: Path, texts: int) -> None:
    """Passes a checkpoint whose tokenizer is its model's.

    Args:
        checkpoint: A folder that models.find has passed.
        texts: Of an example, 1 or 2.

    Raises:
        UserError: If it has more tokens than the model, or token types that the model has not, or is not what its own
            settings say, so that others would read a text as other tokens.
    """
    config = encoders.complete(read_config(checkpoint))
    tokenizer, _ = load_tokenizer(checkpoint)
    around = template(tokenizer, texts)
    tokens, rows = max(tokenizer.get_vocab().values()) + 1, config["vocab_size"]
    if tokens > rows:
        raise UserError(
            f"{checkpoint}: its tokenizer has {tokens:,} tokens, its model {rows:,}: they are not of the same "
            "checkpoint"
        )
    types = max(*around.text_types, *itertools.chain(*around.special_types)) + 1
    known = config["type_vocab_size"]
    if 0 < known < types and config["model_type"] not in encoders.ONE_TYPE:
        raise UserError(
            f"{checkpoint}: its tokenizer gives examples of {plural(texts, 'text')} {types} token types, its model has "
            f"{known} (type_vocab_size)"
        )
    file = checkpoint / "tokenizer_config.json"
    stated = read_json(file).get("do_lower_case") if file.exists() else None
    if isinstance(stated, bool) and isinstance(tokenizer.model, WordPiece):
        lowers = tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str("A") == "a"
        if stated != lowers:
            raise UserError(
                f"{file}: do_lower_case is {str(stated).lower()}, but tokenizer.json {'' if lowers else 'does not '}"
                f"lower-case{'s' if lowers else ''}; transformers would read a text by the one, others by the other. "
                "Correct the file that is wrong"
            )


def for_transformers(checkpoint: Path, max_tokens: int, truncate: str):
    """The tokenizer by which a run's examples are batched, and which is saved with its model: what tokens.encode reads
    from tokenizer.json, not what transformers' own class for the architecture would make of its settings.

    It pads on the right, since encoders read the first position. With `truncation=True` it cuts as tokens.encode does,
    except for head_tail, which transformers has not.

    Args:
        checkpoint: A folder that `check` has passed.
        max_tokens: Of the longest example.
        truncate: As in the experiment.

    Returns:
        A PreTrainedTokenizerFast.

    Raises:
        UserError: If transformers cannot load it, or it has no padding token, or another than the model takes for one.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    config = encoders.complete(read_config(checkpoint))
    tokenizer, _ = load_tokenizer(checkpoint)
    try:
        names = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False).special_tokens_map
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise UserError(f"{checkpoint}: transformers cannot load its tokenizer: {first_line(error)}") from None
    special = {
        name: token
        for name, token in names.items()
        if isinstance(token, str) and tokenizer.token_to_id(token) is not None
    }
    padding, expected = tokenizer.token_to_id(special.get("pad_token", "")), config["pad_token_id"]
    if padding is None or (padding != expected and config["model_type"] in encoders.COUNTED):
        raise UserError(
            f"{checkpoint}: its tokenizer pads with {special.get('pad_token', 'no token')} ({padding}), its model "
            f"takes {expected} for padding (pad_token_id)"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        padding_side="right",
        truncation_side="left" if truncate == "tail" else "right",
        model_max_length=max_tokens,
        model_input_names=encoders.input_names(config),
        clean_up_tokenization_spaces=False,
        **special,
    )


@dataclass(frozen=True)
class Collator:
    """Makes a batch of encoded examples: padded, without what the model is not fed.

    Attributes:
        tokenizer: From `for_transformers`, or one that was saved with a model.
    """

    tokenizer: Any

    def __call__(self, rows: Sequence[Mapping[str, Any]]):
        """Tensors by name, (batch, tokens), and labels (batch,) if the rows have them."""
        names = (*self.tokenizer.model_input_names, "labels")
        return self.tokenizer.pad(
            [{name: row[name] for name in names if name in row} for row in rows], return_tensors="pt"
        )
