"""Documents -> one stream of tokens -> windows to train on and to measure in."""

import hashlib
import logging
import os
from pathlib import Path

import numpy

from nutshell.data.documents import Documents
from nutshell.data.tokens import CHUNK, cache_folder
from nutshell.data.vocabularies import Vocabulary
from nutshell.experiment import UserError

logger = logging.getLogger("nutshell")

FORMAT = "1"  # counted up when what is stored changes


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


class Windows:
    """Stretches of a stream: item n is (ids, scored), the tokens and how many at their end are to be predicted."""

    def __init__(self, tokens: numpy.ndarray, spans: list[tuple[int, int, int]]):
        self.tokens, self.spans = tokens, spans

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, number: int) -> tuple[numpy.ndarray, int]:
        start, end, scored = self.spans[number]
        return self.tokens[start:end], scored


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
