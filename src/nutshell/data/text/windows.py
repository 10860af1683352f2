"""Documents -> one stream of tokens -> windows to train on and to measure in."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy

from nutshell.data.encoding.tokens import CHUNK, cached
from nutshell.data.parts import Part
from nutshell.data.readers.table import shown
from nutshell.data.text.vocabularies import Vocabulary
from nutshell.machine.errors import UserError

logger = logging.getLogger("nutshell")

FORMAT = "2"  # counted up when what is stored changes
STRETCH_BYTES = 4096


def stream(documents: Part, vocabulary: Vocabulary) -> numpy.ndarray:
    """End of text, then each document followed by end of text: (tokens,) int32, memory-mapped from the cache.

    Raises:
        UserError: If the tokenizer does not keep the text, so that no figure per byte is possible; or the text has the
            token that ends a document.
    """

    def write(file: Path) -> None:
        if documents.size_bytes > 1_000_000:
            logger.info("tokenizing %s bytes (once; kept in %s)", f"{documents.size_bytes:,}", file.parent)
        pieces = [[vocabulary.end_of_text]]
        for first in range(0, len(documents), CHUNK):
            rows = encode(documents.documents[first : first + CHUNK], vocabulary)
            pieces += [[*ids, vocabulary.end_of_text] for ids in rows]
        with file.open("wb") as sink:
            numpy.save(sink, numpy.concatenate([numpy.array(piece, dtype=numpy.int32) for piece in pieces]))

    key = [FORMAT, documents.digest(), vocabulary.digest, str(vocabulary.end_of_text)]
    return numpy.load(cached(key, ".npy", write), mmap_mode="r")


def _check_does_not_end(rows: Sequence[Sequence[int]], vocabulary: Vocabulary) -> None:
    if any(vocabulary.end_of_text in ids for ids in rows):
        raise UserError(
            f"{vocabulary.describe_end()}: the text has that token, so that no document would end where it does; state "
            "an eos_token_id in config.json that is a token of its own"
        )


def encode(texts: Sequence[str], vocabulary: Vocabulary) -> list[list[int]]:
    """Each text's tokens.

    Raises:
        UserError: If the tokenizer does not keep a text, or a text has the token that ends one.
    """
    encodings = vocabulary.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    rows = [encoding.ids for encoding in encodings]
    _check_does_not_end(rows, vocabulary)
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


def owners(tokens: numpy.ndarray, end_of_text: int) -> numpy.ndarray:
    """The number of the document that each token of a stream except the first belongs to, its end of text included:
    (tokens - 1,)."""
    return numpy.cumsum(tokens[:-1] == end_of_text) - 1


def stretches(
    documents: Part, vocabulary: Vocabulary, tokens: numpy.ndarray, costs: numpy.ndarray
) -> dict[str, numpy.ndarray]:
    """What a text costs, by stretches of at most STRETCH_BYTES of each document: the same for every tokenizer.

    A token belongs to the stretch that its last byte is in, an end of text to its document's last.

    Args:
        documents: The text.
        vocabulary: Of its tokens.
        tokens: Its stream.
        costs: (tokens - 1,) nats of the stream's tokens except the first.

    Returns:
        document, start_byte, bytes, tokens and nats, (stretches,) each. One stretch, the whole text, if the tokens do
        not spell bytes: there is no interval then.
    """
    sizes = numpy.array([len(text.encode()) for text in documents.documents])
    of = owners(tokens, vocabulary.end_of_text)
    spelt = vocabulary.token_bytes()[tokens[1:]].cumsum()
    last = spelt - (sizes.cumsum() - sizes)[of] - 1
    if spelt[-1] != sizes.sum() or (last >= sizes[of].clip(1)).any():
        logger.warning("the tokenizer's tokens are not bytes: no interval, and no comparison with other runs")
        totals = {"document": 0, "start_byte": 0, "bytes": sizes.sum(), "tokens": len(costs)}
        columns = {name: numpy.array([value]) for name, value in totals.items()}
        return {**columns, "nats": numpy.array([costs.sum(dtype=numpy.float64)])}
    counts = numpy.ceil(sizes / STRETCH_BYTES).astype(int).clip(1)
    document = numpy.repeat(numpy.arange(len(sizes)), counts)
    first = counts.cumsum() - counts
    start = STRETCH_BYTES * (numpy.arange(counts.sum()) - first[document])
    place = first[of] + last.clip(0) // STRETCH_BYTES
    return {
        "document": document,
        "start_byte": start,
        "bytes": numpy.minimum(STRETCH_BYTES, sizes[document] - start),
        "tokens": numpy.bincount(place, minlength=counts.sum()),
        "nats": numpy.bincount(place, costs, minlength=counts.sum()),
    }


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
        """What each token of the stream except the first costs, (tokens - 1,).

        Args:
            costs: (windows, predictions) of each window, padded at the right.
        """
        ordered = numpy.empty(len(self.tokens) - 1, costs.dtype)
        for row, (start, end, scored) in zip(costs, self.spans, strict=True):
            ordered[end - scored - 1 : end - 1] = row[end - start - 1 - scored : end - start - 1]
        return ordered


def windows(tokens: numpy.ndarray, block_tokens: int, stride: int) -> Windows:
    """Windows in which every token except the stream's first is scored exactly once.

    A window has one token more than the `block_tokens` that are fed: its last one is only predicted. After the first
    window only the last `stride` predictions are scored, each with at least `block_tokens` - `stride` + 1 tokens before
    it. With a stride of `block_tokens` windows do not overlap, except for the token that ends one and begins the next.

    Source: Radford et al. 2019, section 3.1; transformers' documentation, "Perplexity of fixed-length models".
    """
    spans, scored = [], 1
    for start in range(0, max(1, len(tokens) - 1), stride):
        end = min(start + block_tokens + 1, len(tokens))
        if end > scored:
            spans.append((start, end, end - scored))
            scored = end
    return Windows(tokens, spans)


def windows_apart(rows: Sequence[Sequence[int]], end_of_text: int, block_tokens: int, stride: int) -> Windows:
    """Windows of texts of which none has another one before it: the first window of each begins with an end of text.

    Args:
        rows: Each text's tokens.
        end_of_text: Ends each text in the stream, and begins the first.
        block_tokens, stride: As `windows` has them.

    Returns:
        The longest window first, so that little is padded.
    """
    tokens = numpy.array([end_of_text, *(token for ids in rows for token in (*ids, end_of_text))], dtype=numpy.int32)
    spans, first = [], 0
    for ids in rows:
        last = first + len(ids) + 2
        inside = windows(tokens[first:last], block_tokens, stride).spans
        spans += [(first + start, first + end, scored) for start, end, scored in inside]
        first = last - 1
    return Windows(tokens, sorted(spans, key=lambda span: span[0] - span[1]))
