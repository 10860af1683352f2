"""Text to tokens: cut to length, cached by content."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from tokenizers import Tokenizer

from nutshell.data.datasets import LabelledData
from nutshell.data.encoding.tokenizers import load_tokenizer, template
from nutshell.data.parts import Part
from nutshell.machine import hub

logger = logging.getLogger("nutshell")

FORMAT = "3"  # counted up when what is stored below changes
CHUNK = 1000
COLUMNS = {
    "input_ids": pa.list_(pa.int32()),
    "token_type_ids": pa.list_(pa.int8()),
    "length": pa.int32(),
    "whole_length": pa.int32(),
    "index": pa.int64(),
}


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
    """Each example as the encoder reads it: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]` for BERT, for others as their
    tokenizer says. Labels are not looked at.

    Yields:
        input_ids: At most `max_tokens`, the special tokens included.
        token_type_ids: As long; for BERT 0 in the first text, 1 in the second.
        whole_length: How many tokens it would have without the cut.

    Source: Devlin et al. 2019, section 3.
    """
    if not part.texts:
        return
    around = template(tokenizer, len(part.texts[0]))
    added = sum(map(len, around.special))
    for first in range(0, len(part), CHUNK):
        texts = part.texts[first : first + CHUNK]
        columns = [
            tokenizer.encode_batch_fast([text[column] for text in texts], add_special_tokens=False)
            for column in range(len(texts[0]))
        ]
        for encodings in zip(*columns, strict=True):
            sentences = [encoding.ids for encoding in encodings]
            budgets = share([len(ids) for ids in sentences], max_tokens - added)
            input_ids, token_type_ids = [*around.special[0]], [*around.special_types[0]]
            for place, (ids, budget) in enumerate(zip(sentences, budgets, strict=True)):
                kept = cut(ids, budget, truncate)
                input_ids += kept + around.special[place + 1]
                token_type_ids += [around.text_types[place]] * len(kept) + around.special_types[place + 1]
            yield input_ids, token_type_ids, added + sum(map(len, sentences))


def cached(key: Sequence[str], suffix: str, write: Callable[[Path], None] | None = None) -> Path:
    """A file of Hugging Face's cache whose name is a digest of everything that its content depends on.

    Args:
        key: What it depends on, with a number that is counted up when the form of the content changes.
        suffix: Of the file's name.
        write: Writes the content to a path, if the file is not there: it is there whole or not at all.

    Raises:
        UserError: If the cache cannot be written.
    """
    folder = hub.own_cache()
    file = folder / f"{hashlib.sha256(chr(10).join(key).encode()).hexdigest()}{suffix}"
    if file.exists() or write is None:
        return file
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
        The file; columns input_ids and token_type_ids (lists), length (tokens), whole_length (before it was cut), index
        (the example's place in the part), and labels if the part has them.
    """
    tokenizer, digest = load_tokenizer(checkpoint)
    schema = pa.schema(COLUMNS)
    if part.labels is not None:
        schema = schema.append(pa.field("labels", pa.array(part.labels[:1]).type))

    def write(file: Path) -> None:
        if len(part) > CHUNK:
            logger.info("tokenizing %s examples (once; kept in %s)", f"{len(part):,}", file.parent)
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            rows = []
            encoded = encode(part, tokenizer, data.max_tokens, data.truncate)
            for index, (input_ids, token_type_ids, whole) in enumerate(encoded):
                label = [] if part.labels is None else [part.labels[index]]
                rows.append((input_ids, token_type_ids, len(input_ids), whole, index, *label))
                if len(rows) == CHUNK or index + 1 == len(part):
                    writer.write_batch(pa.record_batch([*zip(*rows, strict=True)], schema=schema))
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
