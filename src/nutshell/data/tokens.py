"""Text to tokens: cut to length, cached by content."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from tokenizers import Tokenizer

from nutshell.data.datasets import LabelledData
from nutshell.data.parts import Part
from nutshell.machine.errors import UserError

logger = logging.getLogger("nutshell")

FORMAT = "2"  # counted up when what is stored below changes
CHUNK = 1000
SCHEMA = pa.schema(
    {
        "input_ids": pa.list_(pa.int32()),
        "token_type_ids": pa.list_(pa.int8()),
        "labels": pa.int64(),
        "length": pa.int32(),
        "whole_length": pa.int32(),
        "index": pa.int64(),
    }
)


def cut(ids: list[int], budget: int, truncate: str) -> list[int]:
    """At most `budget` of a text's token ids.

    `head` keeps the first, `tail` the last, `head_tail` the first 128 (half of a budget under 256) and the
    rest from the end.

    Source: Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?", section 5.3.1 (128 + 382 = 510).
    """
    if len(ids) <= budget:
        return ids
    head = {"head": budget, "tail": 0, "head_tail": min(128, budget // 2)}[truncate]
    return ids[:head] + ids[len(ids) - (budget - head) :]


def share(lengths: list[int], budget: int) -> list[int]:
    """How many tokens each of one or two texts keeps: the longer is cut first, down to the other's length."""
    if sum(lengths) <= budget:
        return lengths
    if len(lengths) == 1:
        return [budget]
    shorter = min(*lengths, budget // 2)
    return [shorter, budget - shorter] if lengths[0] <= lengths[1] else [budget - shorter, shorter]


def encode(
    part: Part, tokenizer: Tokenizer, max_tokens: int, truncate: str
) -> Iterator[tuple[list[int], list[int], int]]:
    """Each example as BERT reads it, `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`.

    Yields:
        input_ids: At most `max_tokens`, the special tokens included.
        token_type_ids: As long; 0 in the first sentence, 1 in the second.
        whole_length: How many tokens it would have without the cut.

    Source: Devlin et al. 2019, section 3.
    """
    start, separator = special_tokens(tokenizer)
    for first in range(0, len(part), CHUNK):
        texts = part.texts[first : first + CHUNK]
        columns = [
            tokenizer.encode_batch_fast([text[column] for text in texts], add_special_tokens=False)
            for column in range(len(texts[0]))
        ]
        for encodings in zip(*columns, strict=True):
            sentences = [encoding.ids for encoding in encodings]
            budgets = share([len(ids) for ids in sentences], max_tokens - 1 - len(sentences))
            input_ids, token_type_ids = [start], [0]
            for kind, (ids, budget) in enumerate(zip(sentences, budgets, strict=True)):
                sentence = [*cut(ids, budget, truncate), separator]
                input_ids += sentence
                token_type_ids += [kind] * len(sentence)
            yield input_ids, token_type_ids, 1 + sum(len(ids) + 1 for ids in sentences)


def special_tokens(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of the tokens that begin an example and end a sentence.

    Raises:
        UserError: If the tokenizer has none.
    """
    start, separator = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    if start is None or separator is None:
        raise UserError("the checkpoint's tokenizer has no [CLS] or no [SEP] token, so it is not BERT's")
    return start, separator


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


def cached(key: Sequence[str], suffix: str, write: Callable[[Path], None] | None = None) -> Path:
    """A file of Hugging Face's cache whose name is a digest of everything that its content depends on.

    Args:
        key: What it depends on, with a number that is counted up when the form of the content changes.
        suffix: Of the file's name.
        write: Writes the content to a path, if the file is not there: it is there whole or not at all.

    Raises:
        UserError: If the cache cannot be written.
    """
    from huggingface_hub.constants import HF_HOME

    folder = Path(HF_HOME) / "nutshell"
    file = folder / f"{hashlib.sha256(chr(10).join(key).encode()).hexdigest()}{suffix}"
    if file.exists() or write is None:
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: tokens cannot be kept there: {error.strerror}; set HF_HOME") from None
    partial = file.with_suffix(f".{os.getpid()}")
    try:
        write(partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return file


def _key(part: Part, data: LabelledData, tokenizer_sha256: str) -> list[str]:
    return [FORMAT, part.digest(), tokenizer_sha256, str(data.max_tokens), data.truncate]


def tokenize(part: Part, data: LabelledData, checkpoint: Path) -> Path:
    """A part's tokens as an Arrow file in Hugging Face's cache, written once for the same text and tokenizer.

    Returns:
        The file; columns input_ids and token_type_ids (lists), labels, length (tokens), whole_length (before it was
        cut), index (the example's place in the part).
    """
    tokenizer, digest = load_tokenizer(checkpoint)

    def write(file: Path) -> None:
        if len(part) > CHUNK:
            logger.info("tokenizing %s examples (once; kept in %s)", f"{len(part):,}", file.parent)
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
            rows = []
            encoded = encode(part, tokenizer, data.max_tokens, data.truncate)
            for index, (input_ids, token_type_ids, whole) in enumerate(encoded):
                rows.append((input_ids, token_type_ids, part.labels[index], len(input_ids), whole, index))
                if len(rows) == CHUNK or index + 1 == len(part):
                    writer.write_batch(pa.record_batch([*zip(*rows, strict=True)], schema=SCHEMA))
                    rows = []

    return cached(_key(part, data, digest), ".arrow", write)


def count(part: Part, data: LabelledData, checkpoint: Path, sample: int = 300) -> tuple[int, bool]:
    """The tokens of a part and whether that is exact: counted if they are cached, or from `sample` examples."""
    tokenizer, digest = load_tokenizer(checkpoint)
    file = cached(_key(part, data, digest), ".arrow")
    if file.exists():
        with pa.memory_map(str(file)) as source:
            return int(pa.ipc.open_stream(source).read_all()["length"].to_numpy().sum()), True
    rows = range(0, len(part), max(1, len(part) // sample))
    tokens = sum(len(ids) for ids, *_ in encode(part.take(list(rows)), tokenizer, data.max_tokens, data.truncate))
    return round(tokens * len(part) / len(rows)), len(rows) == len(part)
