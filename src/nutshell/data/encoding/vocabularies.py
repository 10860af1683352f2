"""Tokenizers of language models: a checkpoint's own, single bytes, or a byte-level BPE trained on the training part."""

import hashlib
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from nutshell.data.encoding.tokens import cached, load_tokenizer
from nutshell.data.parts import Part
from nutshell.data.readers.table import shown
from nutshell.machine.errors import UserError
from nutshell.models.language.architectures import complete, end_of_text, own_end_of_text

END_OF_TEXT = "<|endoftext|>"
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())  # 256 characters, one for each byte
_LETTERS = frozenset(BYTES)
_SPACE = "\u2581"  # as SentencePiece writes one


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, and the tokens around a document.

    Attributes:
        digest: The tokenizer's sha256.
        end_of_text: The id of the token that ends a document.
        own_end_of_text: That which the tokenizer's own settings name.
        start: The id of the token that begins a document; None: the end of text, of the document before.
    """

    tokenizer: Tokenizer
    digest: str
    end_of_text: int
    own_end_of_text: int | None = None
    start: int | None = None

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    @property
    def start_of_text(self) -> int:
        """The token that is fed before a document."""
        return self.end_of_text if self.start is None else self.start

    @property
    def only_fed(self) -> tuple[int, ...]:
        """Tokens that are fed and never predicted: a start of text, unless it is the end of the document before."""
        return () if self.start_of_text == self.end_of_text else (self.start_of_text,)

    def describe_end(self) -> str:
        """Which tokens end a text, for the message that this cannot be."""
        own, ends = self.own_end_of_text, f"config.json ends a text with {self._describe(self.end_of_text)}"
        return ends if own is None else f"{ends}, the tokenizer with {self._describe(own)}"

    def describe_start(self) -> str:
        """Which token begins a text, for the message that this cannot be."""
        return f"config.json begins a text with {self._describe(self.start_of_text, 'bos_token_id')}"

    def _describe(self, number: int, key: str = "eos_token_id") -> str:
        token = self.tokenizer.id_to_token(number)
        return f"{key} {number}, " + ("which is no token" if token is None else f"the token {shown(token)}")

    def token_bytes(self) -> numpy.ndarray:
        """How many bytes each token spells, (vocab,): as its decoder has it, byte by byte, or character by character
        where that writes a space as U+2581 and, of characters that are no token, each byte as <0x0A>."""
        decoder = self.tokenizer.decoder
        byte_level = decoder is not None and b"ByteLevel" in decoder.__getstate__()
        size = _byte_level_size if byte_level else _character_size
        sizes = [size(self.tokenizer.id_to_token(number) or "") for number in range(len(self))]
        sizes[self.end_of_text] = sizes[self.start_of_text] = 0
        return numpy.array(sizes)

    def spelt(self, tokens: numpy.ndarray) -> numpy.ndarray:
        """How many bytes of its document each token of a stream except the first spells, (tokens - 1,). Some tokenizers
        put a space before every text, which is in a document's first token and not in the document."""
        begins = self.tokenizer.encode("a", add_special_tokens=False).tokens[:1]
        space = bool(begins) and begins[0].startswith(_SPACE)
        first = (tokens[:-1] == self.start_of_text) & (tokens[1:] != self.end_of_text)
        return self.token_bytes()[tokens[1:]] - space * first


def _byte_level_size(token: str) -> int:
    return len(token) if all(letter in _LETTERS for letter in token) else len(token.encode())  # an added token


def _character_size(token: str) -> int:
    return 1 if re.fullmatch(r"<0x[0-9A-F]{2}>", token) else len(token.replace(_SPACE, " ").encode())


def of_checkpoint(checkpoint: Path, config: dict[str, Any]) -> Vocabulary:
    """A checkpoint's own tokenizer.

    Args:
        checkpoint: Its folder.
        config: Its config.json, which may leave out what is transformers' default.

    Raises:
        UserError: If it has none, or one that has more tokens than the model, or no single token that ends a text, or
            one that begins a text and is none of its own.
    """
    tokenizer, digest = load_tokenizer(checkpoint)
    config = complete(config)
    own = own_end_of_text(checkpoint, tokenizer.token_to_id)
    around = end_of_text(config["eos_token_id"], own), own, config["bos_token_id"]
    vocabulary = Vocabulary(strict(tokenizer), digest, *around)
    if len(vocabulary) > config["vocab_size"]:
        raise UserError(
            f"{checkpoint}: its tokenizer has {len(vocabulary):,} tokens, its model {config['vocab_size']:,}: they are "
            "not of the same checkpoint"
        )
    if not isinstance(vocabulary.end_of_text, int):
        token = shown(vocabulary.end_of_text)
        raise UserError(f"{checkpoint}: its eos_token_id is {token}, but one token must end a document")
    if vocabulary.end_of_text not in range(len(vocabulary)):
        raise UserError(
            f"{checkpoint}: {vocabulary.describe_end()}; the tokenizer's ids are 0 to {len(vocabulary) - 1}"
        )
    if vocabulary.start_of_text not in range(len(vocabulary)):
        raise UserError(
            f"{checkpoint}: {vocabulary.describe_start()}; the tokenizer's ids are 0 to {len(vocabulary) - 1}"
        )
    return vocabulary


def of_bytes() -> Vocabulary:
    """256 bytes and the end of text: no merges, nothing to train."""
    tokenizer = _byte_level(models.BPE(vocab={token: number for number, token in enumerate(BYTES)}, merges=[]))
    tokenizer.add_special_tokens([END_OF_TEXT])
    return _vocabulary(tokenizer)


def trained(documents: Part, size: int) -> Vocabulary:
    """A byte-level BPE of `size` tokens, the 256 bytes and the end of text among them, cached by its text.

    Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; on bytes: Radford et
    al. 2019, section 2.2.

    Raises:
        UserError: If the text has too few distinct pairs for so many merges.
    """

    def write(file: Path) -> None:
        tokenizer = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=[END_OF_TEXT], initial_alphabet=BYTES, show_progress=False
        )
        tokenizer.train_from_iterator(documents.documents, trainer)
        if tokenizer.get_vocab_size() < size:
            raise UserError(
                f"model.vocab_size: {size} tokens are more than a training part of {documents.size_bytes:,} bytes "
                f"gives, {tokenizer.get_vocab_size()}; state at most that"
            )
        tokenizer.save(str(file))

    file = cached(["bpe 1", documents.digest(), str(size)], ".tokenizer.json", write)
    return _vocabulary(Tokenizer.from_file(str(file)))


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    digest = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
    return Vocabulary(strict(tokenizer), digest, tokenizer.token_to_id(END_OF_TEXT))


def strict(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, for which a text that spells out <|endoftext|> does not end there."""
    tokenizer.encode_special_tokens = True
    return tokenizer


def start_tokens(tokenizer: Tokenizer) -> list[int]:
    """What a tokenizer puts before a text by its own post-processor: Llama's, Gemma's and Mistral's a start token,
    GPT-2's and SmolLM2's nothing."""
    example = tokenizer.encode("a")
    pairs = zip(example.ids, example.sequence_ids, strict=True)
    return [number for number, _ in itertools.takewhile(lambda pair: pair[1] is None, pairs)]


def for_transformers(vocabulary: Vocabulary, max_tokens: int | None):
    """The tokenizer as transformers knows it, to be saved next to the model: a PreTrainedTokenizerFast.

    Args:
        vocabulary: Of bytes, or one that was trained here.
        max_tokens: The model's context; None if it has no limit.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=vocabulary.tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        **({"model_max_length": max_tokens} if max_tokens else {}),
    )
