"""Documents -> one stream of tokens -> windows to train on and to measure in."""

import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy

from nutshell.data.encoding.tokens import CHUNK, cached
from nutshell.data.encoding.vocabularies import Vocabulary
from nutshell.data.parts import Part
from nutshell.data.readers.table import shown
from nutshell.machine.errors import UserError

logger = logging.getLogger("nutshell")

FORMAT = "2"  # counted up when what is stored changes


def stream(documents: Part, vocabulary: Vocabulary) -> numpy.ndarray:
    """Start of text, a document, end of text, for each document; where one token is both, it is not repeated between
    two documents: (tokens,) int32, memory-mapped from the cache.

    Raises:
        UserError: If the tokenizer does not keep the text, so that no figure per byte is possible; or the text has the
            token that begins or ends a document.
    """

    def write(file: Path) -> None:
        if documents.size_bytes > 1_000_000:
            logger.info("tokenizing %s bytes (once; kept in %s)", f"{documents.size_bytes:,}", file.parent)
        chunks = (documents.documents[first : first + CHUNK] for first in range(0, len(documents), CHUNK))
        with file.open("wb") as sink:
            numpy.save(sink, join((ids for chunk in chunks for ids in encode(chunk, vocabulary)), vocabulary))

    key = [FORMAT, documents.digest(), vocabulary.digest, str(vocabulary.end_of_text), *map(str, vocabulary.only_fed)]
    return numpy.load(cached(key, ".npy", write), mmap_mode="r")


def join(rows: Iterable[Sequence[int]], vocabulary: Vocabulary) -> numpy.ndarray:
    """The stream of documents' tokens: (tokens,) int32."""
    before, end = vocabulary.only_fed, vocabulary.end_of_text
    pieces = [numpy.array([*before, *ids, end], dtype=numpy.int32) for ids in rows]
    return numpy.concatenate([numpy.array([] if before else [end], dtype=numpy.int32), *pieces])


def _check_around(rows: Sequence[Sequence[int]], vocabulary: Vocabulary) -> None:
    if any(vocabulary.end_of_text in ids for ids in rows):
        raise UserError(
            f"{vocabulary.describe_end()}: the text has that token, so that no document would end where it does; state "
            "an eos_token_id in config.json that is a token of its own"
        )
    if any(token in ids for token in vocabulary.only_fed for ids in rows):
        raise UserError(
            f"{vocabulary.describe_start()}: the text has that token, so that no document would begin where it does; "
            "state a bos_token_id in config.json that is a token of its own"
        )


def encode(texts: Sequence[str], vocabulary: Vocabulary) -> list[list[int]]:
    """Each text's tokens.

    Raises:
        UserError: If the tokenizer does not keep a text, or a text has the token that begins or ends one.
    """
    encodings = vocabulary.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    rows = [encoding.ids for encoding in encodings]
    _check_around(rows, vocabulary)
    _check_kept(texts, vocabulary.tokenizer.decode_batch(rows, skip_special_tokens=False))
    return rows


def _check_kept(texts: Sequence[str], decoded: Sequence[str]) -> None:
    for text, back in zip(texts, decoded, strict=True):
        if text != back:
            pairs = enumerate(zip(text, back, strict=False))
            at = next((number for number, (one, other) in pairs if one != other), min(len(text), len(back)))
            raise UserError(
                f"the tokenizer does not keep the text: {shown(text[at : at + 20])} comes back as "
                f"{shown(back[at : at + 20])}; bits per byte need one that does, such as GPT-2's"
            )


class Windows:
    """Stretches of a stream: item n is (ids, scored), the tokens and how many at their end are to be predicted.

    Attributes:
        tokens: The stream.
        spans: Of each window its first token, the one after its last, and how many at its end are to be predicted.
        only_fed: Tokens that are not predicted wherever they are.
    """

    def __init__(self, tokens: numpy.ndarray, spans: list[tuple[int, int, int]], only_fed: Sequence[int] = ()):
        self.tokens, self.spans, self.only_fed = tokens, spans, only_fed

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, number: int) -> tuple[numpy.ndarray, int]:
        start, end, scored = self.spans[number]
        return self.tokens[start:end], scored

    @cached_property
    def scored(self) -> numpy.ndarray:
        """Whether each token of the stream except the first is predicted: (tokens - 1,) booleans."""
        scored = numpy.zeros(len(self.tokens), dtype=bool)
        for _, end, count in self.spans:
            scored[end - count : end] = True
        return scored[1:] & ~numpy.isin(self.tokens[1:], self.only_fed)

    def in_order(self, costs: numpy.ndarray) -> numpy.ndarray:
        """What each token of the stream except the first costs, (tokens - 1,); 0 where it is not predicted.

        Args:
            costs: (windows, predictions) of each window, padded at the right, 0 where nothing is predicted.
        """
        ordered = numpy.zeros(len(self.tokens) - 1, costs.dtype)
        for row, (start, end, scored) in zip(costs, self.spans, strict=True):
            ordered[end - scored - 1 : end - 1] = row[end - start - 1 - scored : end - start - 1]
        return ordered


def windows(
    tokens: numpy.ndarray,
    vocabulary: Vocabulary,
    block_tokens: int,
    stride: int | None = None,
    documents: str = "joined",
    count_ends: bool = True,
    last_window: str = "short",
) -> Windows:
    """Windows in which every document's tokens are each predicted exactly once.

    A window has one token more than the `block_tokens` that are fed: its last one is only predicted. After the first
    window only the last `stride` predictions are scored, each with at least `block_tokens` - `stride` + 1 tokens before
    it. With a stride of `block_tokens` windows do not overlap, except for the token that ends one and begins the next.

    With `documents` separate, `count_ends` false, `last_window` full and no stride they are those of
    lm-evaluation-harness: of `loglikelihood_rolling`.

    Args:
        tokens: A stream.
        vocabulary: Of its tokens.
        block_tokens: The most that are fed at once.
        stride: Tokens from one window to the next; None: `block_tokens`.
        documents: joined: a document has those before it as context. separate: each has windows of its own, which begin
            with its start of text; the longest window comes first, so that little is padded.
        count_ends: Whether the end of each document is predicted.
        last_window: Of a stream or document that has several windows. short: the last begins where the next one after
            the others would. full: it begins earlier, so that it has as many tokens as they.

    Source: Radford et al. 2019, section 3.1; transformers' documentation, "Perplexity of fixed-length models"; Gao et
    al., lm-evaluation-harness, `get_rolling_token_windows`.
    """
    starts, ends = [0], [len(tokens) - 1]
    if documents == "separate":
        starts, ends = (
            numpy.flatnonzero(tokens == token).tolist() for token in (vocabulary.start_of_text, vocabulary.end_of_text)
        )
        if not vocabulary.only_fed:  # each token is the end of one document and the start of the next
            starts, ends = starts[:-1], ends[1:]
    spans = []
    for first, last in zip(starts, ends, strict=True):
        inside = _spans(last - first + count_ends, block_tokens, stride or block_tokens, last_window == "full")
        spans += [(first + start, first + end, scored) for start, end, scored in inside]
    if documents == "separate":
        spans.sort(key=lambda span: span[0] - span[1])
    ends_too = () if count_ends else (vocabulary.end_of_text,)
    return Windows(tokens, spans, (*vocabulary.only_fed, *ends_too))


def _spans(length: int, block_tokens: int, stride: int, full: bool) -> list[tuple[int, int, int]]:
    """The windows of so many tokens."""
    spans, scored = [], 1
    for start in range(0, max(1, length - 1), stride):
        end = min(start + block_tokens + 1, length)
        if end > scored:
            spans.append((max(0, end - block_tokens - 1) if full else start, end, end - scored))
            scored = end
    return spans
