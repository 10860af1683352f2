"""Documents -> one stream of tokens -> windows to train on and to measure in."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy

from nutshell.data.documents import Documents
from nutshell.data.tokens import CHUNK, cache_folder
from nutshell.data.vocabularies import Vocabulary
from nutshell.machine.errors import UserError

logger = logging.getLogger("nutshell")

FORMAT = "1"  # counted up when what is stored changes
STRETCH_BYTES = 4096


def stream(documents: Documents, vocabulary: Vocabulary) -> numpy.ndarray:
    """End of text, then each document followed by end of text: (tokens,) int32, memory-mapped from the cache.

    Raises:
        UserError: If the tokenizer does not keep the text, so that no figure per byte could be had of it.
    """
    key = f"{FORMAT}\n{documents.digest()}\n{vocabulary.digest}\n{vocabulary.end_of_text}"
    file = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()}.npy"
    if not file.exists():
        if documents.size_bytes > 1_000_000:
            logger.info("tokenizing %s bytes (once; kept in %s)", f"{documents.size_bytes:,}", file.parent)
        _write(documents, vocabulary, file)
    return numpy.load(file, mmap_mode="r")


def _write(documents: Documents, vocabulary: Vocabulary, file: Path) -> None:
    pieces = [[vocabulary.end_of_text]]
    for first in range(0, len(documents), CHUNK):
        texts = documents.texts[first : first + CHUNK]
        rows = [found.ids for found in vocabulary.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        back = vocabulary.tokenizer.decode_batch(rows, skip_special_tokens=False)
        for text, again in zip(texts, back, strict=True):
            if text != again:
                pairs = enumerate(zip(text, again, strict=False))
                at = next((number for number, (one, other) in pairs if one != other), min(len(text), len(again)))
                raise UserError(
                    f"the tokenizer does not keep the text: {text[at : at + 20]!r} comes back as "
                    f"{again[at : at + 20]!r}; bits per byte need one that does, such as GPT-2's"
                )
        pieces += [[*ids, vocabulary.end_of_text] for ids in rows]
    partial = file.with_suffix(f".{os.getpid()}")
    try:
        with partial.open("wb") as sink:
            numpy.save(sink, numpy.concatenate([numpy.array(piece, dtype=numpy.int32) for piece in pieces]))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def owners(tokens: numpy.ndarray, end_of_text: int) -> numpy.ndarray:
    """The number of the document that each token of a stream but the first belongs to, its end of text included:
    (tokens - 1,)."""
    return numpy.cumsum(tokens[:-1] == end_of_text) - 1


def stretches(
    documents: Documents, vocabulary: Vocabulary, tokens: numpy.ndarray, costs: numpy.ndarray
) -> list[dict[str, Any]]:
    """What a text costs, by stretches of at most STRETCH_BYTES of each document: the same for every tokenizer.

    A token belongs to the stretch that its last byte lies in, an end of text to its document's last.

    Args:
        documents: The text.
        vocabulary: That it was made tokens of.
        tokens: Its stream.
        costs: (tokens - 1,) nats of the stream's tokens but the first.

    Returns:
        For each: document, start_byte, bytes, tokens, nats; none if the tokens do not spell bytes.
    """
    of, sizes = owners(tokens, vocabulary.end_of_text), numpy.array([len(text.encode()) for text in documents.texts])
    spelt = vocabulary.token_bytes()[tokens[1:]].cumsum()
    last = spelt - (sizes.cumsum() - sizes)[of] - 1
    if spelt[-1] != sizes.sum() or (last >= sizes[of].clip(1)).any():
        logger.warning("the tokenizer's tokens are not bytes: this run cannot be compared with others by their text")
        return []
    counts = numpy.ceil(sizes / STRETCH_BYTES).astype(int).clip(1)
    first = counts.cumsum() - counts
    place = first[of] + last.clip(0) // STRETCH_BYTES
    nats = numpy.bincount(place, costs, minlength=counts.sum()).tolist()
    made = numpy.bincount(place, minlength=counts.sum()).tolist()
    rows = []
    for document, size in enumerate(sizes.tolist()):
        for start in range(0, max(1, size), STRETCH_BYTES):
            row = {"document": document, "start_byte": start, "bytes": min(STRETCH_BYTES, size - start)}
            rows.append({**row, "tokens": made[len(rows)], "nats": nats[len(rows)]})
    return rows


class Windows:
    """Stretches of a stream: item n is (ids, scored), the tokens and how many at their end are to be predicted."""

    def __init__(self, tokens: numpy.ndarray, spans: list[tuple[int, int, int]]):
        self.tokens, self.spans = tokens, spans

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, number: int) -> tuple[numpy.ndarray, int]:
        start, end, scored = self.spans[number]
        return self.tokens[start:end], scored

    def in_order(self, costs: numpy.ndarray) -> numpy.ndarray:
        """What each token of the stream but the first costs, (tokens - 1,), of (windows, predictions) as they were
        made, padded at the right."""
        spans = zip(costs, self.spans, strict=True)
        return numpy.concatenate(
            [row[end - start - 1 - scored : end - start - 1] for row, (start, end, scored) in spans]
        )


def windows(tokens: numpy.ndarray, block_tokens: int, stride: int) -> Windows:
    """Windows in which every token but the stream's first is scored exactly once.

    A window has one token more than the `block_tokens` that are fed: its last one is only predicted. After the first
    window only the last `stride` predictions are scored, each with at least `block_tokens` - `stride` + 1 tokens before
    it. With a stride of `block_tokens` windows do not overlap, but for the token that ends one and begins the next.

    Source: Radford et al. 2019, section 3.1; transformers' documentation, "Perplexity of fixed-length models".
    """
    spans, scored = [], 1
    for start in range(0, max(1, len(tokens) - 1), stride):
        end = min(start + block_tokens + 1, len(tokens))
        if end > scored:
            spans.append((start, end, end - scored))
            scored = end
    return Windows(tokens, spans)
