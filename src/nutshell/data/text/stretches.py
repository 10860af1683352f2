"""What a text costs, by stretches of its documents that are the same for every tokenizer."""

import logging
import re

import numpy

from nutshell.data.encoding.vocabularies import Vocabulary
from nutshell.data.parts import Part
from nutshell.data.text.windows import Windows

logger = logging.getLogger("nutshell")

STRETCH_BYTES = 4096


def words(text: str) -> numpy.ndarray:
    """The byte at which each word of a text begins, (words,). There is one word more than there are runs of white
    space: an empty one where such a run begins or ends a text, one in an empty text.

    Source: lm-evaluation-harness, whose `count_words` is the length of `re.split(r"\\s+", text)`.
    """
    size = numpy.array([len(piece.encode()) for piece in re.split(r"(\s+)", text)])
    return (size.cumsum() - size)[::2]


def sizes(documents: Part) -> dict[str, int]:
    """The bytes and the words of all documents."""
    return {"bytes": documents.size_bytes, "words": sum(len(words(text)) for text in documents.documents)}


def owners(tokens: numpy.ndarray, vocabulary: Vocabulary) -> numpy.ndarray:
    """The number of the document that each token of a stream except the first belongs to, its end of text included:
    (tokens - 1,). A start of text that is not the first belongs to the document before it."""
    return numpy.cumsum(tokens[:-1] == vocabulary.start_of_text) - 1


def sums(documents: Part, vocabulary: Vocabulary, windows: Windows, costs: numpy.ndarray) -> dict[str, numpy.ndarray]:
    """What a text costs, by stretches of at most STRETCH_BYTES of each document: the same for every tokenizer.

    A token belongs to the stretch that its last byte is in, an end of text to its document's last. A word belongs to
    the stretch that it begins in; an empty one at the end of a document to its last.

    Args:
        documents: The text.
        vocabulary: Of its tokens.
        windows: Of its stream.
        costs: (tokens - 1,) nats of the stream's tokens except the first, 0 where a token is not predicted.

    Returns:
        document, start_byte, bytes, words, tokens (how many are predicted) and nats, (stretches,) each. One stretch,
        the whole text, if the tokens do not spell bytes: there is no interval then.
    """
    size = numpy.array([len(text.encode()) for text in documents.documents])
    begins = [words(text) for text in documents.documents]
    of = owners(windows.tokens, vocabulary)
    spelt = vocabulary.spelt(windows.tokens).cumsum()
    last = spelt - (size.cumsum() - size)[of] - 1
    if spelt[-1] != size.sum() or (last >= size[of].clip(1)).any():
        logger.warning("the tokenizer's tokens are not bytes: no interval, and no comparison with other runs")
        totals = {"document": 0, "start_byte": 0, "bytes": size.sum(), "words": sum(map(len, begins))}
        totals |= {"tokens": windows.scored.sum()}
        columns = {name: numpy.array([value]) for name, value in totals.items()}
        return {**columns, "nats": numpy.array([costs.sum(dtype=numpy.float64)])}
    counts = numpy.ceil(size / STRETCH_BYTES).astype(int).clip(1)
    document = numpy.repeat(numpy.arange(len(size)), counts)
    first = counts.cumsum() - counts
    start = STRETCH_BYTES * (numpy.arange(counts.sum()) - first[document])
    place = first[of] + last.clip(0) // STRETCH_BYTES
    word_of = numpy.repeat(numpy.arange(len(size)), list(map(len, begins)))
    word_place = first[word_of] + numpy.minimum(numpy.concatenate(begins) // STRETCH_BYTES, counts[word_of] - 1)
    return {
        "document": document,
        "start_byte": start,
        "bytes": numpy.minimum(STRETCH_BYTES, size[document] - start),
        "words": numpy.bincount(word_place, minlength=counts.sum()),
        "tokens": numpy.bincount(place[windows.scored], minlength=counts.sum()),
        "nats": numpy.bincount(place, costs, minlength=counts.sum()),
    }
