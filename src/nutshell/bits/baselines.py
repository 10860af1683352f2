"""What a model is compared with: the most frequent answer, what few labels teach, and common compressors."""

import bz2
import gzip
import lzma
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy

from nutshell.bits.figures.metrics import Columns, Metric
from nutshell.machine.errors import UserError

# Of logistic regression; chosen on held-out training reviews of IMDB, as were pairs of words; scikit-learn's own is 1.
PENALTY = 10.0

Baseline = dict[str, dict[str, float]]  # by metric, by name of the baseline


def majority(metrics: Sequence[Metric], train: numpy.ndarray, columns: Columns, labels: Sequence[str]) -> Baseline:
    """The figures of guesses from the training labels alone, without a look at any text.

    Args:
        metrics: Of a classifier, as `of_classes` has them.
        train: (training examples,) labels.
        columns: With `label` (examples,), of the part that is measured.
        labels: What label 0, 1, ... means.

    Returns:
        Of metrics of answers: those of always answering the most frequent training label, each of them if several are
        equally frequent. Of metrics of nats: those of the training labels' frequencies, left out if the measured part
        has a label that training lacks. None of metrics of confidence: a guess that knows nothing but the frequencies
        is calibrated best of all. What is undefined is left out.
    """
    counts, label = numpy.bincount(train, minlength=len(labels)), columns["label"]
    with numpy.errstate(divide="ignore"):
        frequencies = {"nats": -numpy.log(counts / counts.sum())[label]}
    answers = {
        f"always answering {labels[answer]}": {"predicted": numpy.full(len(label), answer)}
        for answer in numpy.flatnonzero(counts == counts.max())
    }
    by_frequency = {"the training labels' frequencies": frequencies}
    compared = [metric for metric in metrics if "confidence" not in metric.columns]
    return _figures(compared, columns, lambda metric: by_frequency if "nats" in metric.columns else answers)


def training_mean(metrics: Sequence[Metric], train: numpy.ndarray, columns: Columns) -> Baseline:
    """The figures of answering the mean of the training labels, whatever the text; correlations with it are undefined
    and left out.

    Args:
        metrics: Of numbers, as `OF_NUMBERS` has them.
        train: (training examples,) labels.
        columns: With `label` (examples,), of the part that is measured.
    """
    guesses = {"always answering the training mean": {"predicted": numpy.full(len(columns["label"]), train.mean())}}
    return _figures(metrics, columns, lambda metric: guesses)


def adaptive(label: numpy.ndarray, labels: int) -> numpy.ndarray:
    """What each label costs by the frequencies of those before it alone: -ln (n_label + 1/2) / (n + labels / 2).

    Nothing is trained or sent. In the end it is close to the code of the true frequencies: always the majority at its
    best.

    Args:
        label: (examples,) whole numbers, in the order in which they are coded.
        labels: How many there are.

    Returns:
        (examples,) nats.

    Source: Krichevsky & Trofimov 1981, "The performance of universal encoding".
    """
    known = numpy.eye(labels)[label]
    before = known.cumsum(0) - known
    return -numpy.log((before[known > 0] + 0.5) / (numpy.arange(len(label)) + labels / 2))


def bag_of_words(known: Sequence[Sequence[str]], label: numpy.ndarray, texts: Sequence[Sequence[str]]) -> numpy.ndarray:
    """The answers of logistic regression on words and pairs of neighbours, weighed by TF-IDF (sublinear).

    Args:
        known: (known,) rows of one text or two, which it learns from.
        label: (known,) theirs, whole numbers from 0 on, each of them at least once.
        texts: (examples,) such rows, which it answers.

    Returns:
        (examples, labels) probabilities.

    Raises:
        ValueError: If no known text has a word.

    Source: Spärck Jones 1972, "A statistical interpretation of term specificity and its application in retrieval".
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit([text for row in known for text in row])
    known, texts = ([vectorizer.transform(side) for side in zip(*rows, strict=True)] for rows in (known, texts))
    return regression(known, label, texts)


def bag_of_words_in_blocks(
    texts: Sequence[Sequence[str]], label: Sequence[int], sizes: Sequence[int], labels: int
) -> numpy.ndarray:
    """What each label costs if `bag_of_words` learns from all blocks before its own: ln labels in the first one, then
    -ln (n p + 1) / (n + labels) after n labels, so that one that was not seen yet can be coded.

    Args:
        texts: (examples,) rows as `bag_of_words` takes them, in the order in which labels are coded.
        label: (examples,) theirs.
        sizes: Of each block; all examples together.
        labels: How many there are.

    Returns:
        (examples,) nats.

    Raises:
        UserError: If the texts that it learns from have no word.
    """
    nats = [numpy.full(sizes[0], numpy.log(labels))]
    for learned, size in zip(numpy.cumsum(sizes).tolist(), sizes[1:], strict=False):
        seen, known = numpy.unique(label[:learned], return_inverse=True)
        coded, chances = slice(learned, learned + size), numpy.zeros((size, labels))
        try:
            chances[:, seen] = bag_of_words(texts[:learned], known, texts[coded]) if len(seen) > 1 else 1.0
        except ValueError as error:
            raise UserError(f"a bag of words of {learned:,} training examples: {error}") from None
        nats.append(-numpy.log((learned * chances[numpy.arange(size), label[coded]] + 1) / (learned + labels)))
    return numpy.concatenate(nats)


def regression(known: Sequence[Any], label: numpy.ndarray, texts: Sequence[Any]) -> numpy.ndarray:
    """The answers of logistic regression on vectors.

    Of two texts u and v it is fed |u - v| and u v, element by element.

    Args:
        known: (known, dimensions) of each of one text or two, dense or sparse.
        label: (known,) as `bag_of_words` takes it.
        texts: (examples, dimensions) likewise.

    Returns:
        (examples, labels) probabilities.

    Source: for two texts, Conneau et al. 2017, "Supervised Learning of Universal Sentence Representations from Natural
    Language Inference Data", section 3.1.
    """
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    def features(sides: Sequence[Any]) -> Any:
        if len(sides) == 1:
            return sides[0]
        u, v = (sparse.csr_array(side) for side in sides)
        return sparse.hstack([abs(u - v), u.multiply(v)]).tocsr()

    model = LogisticRegression(C=PENALTY, max_iter=1000)
    return model.fit(features(known), label).predict_proba(features(texts))


def _figures(metrics: Sequence[Metric], columns: Columns, guesses: Callable[[Metric], Mapping]) -> Baseline:
    """The value of each metric with each guess's columns in the place of the model's, where it is defined."""
    baseline = {}
    for metric in metrics:
        values = {name: metric.value({**columns, **guess}) for name, guess in guesses(metric).items()}
        baseline[metric.name] = {name: value for name, value in values.items() if value is not None}
    return {name: values for name, values in baseline.items() if values}


def compressors(texts: list[str]) -> dict[str, float]:
    """Compressed bits for each byte of the UTF-8 texts, one after the other in one file.

    Returns:
        `gzip -9`, `bzip2 -9` and `xz -9e`, headers and checksums included.
    """
    raw = "".join(texts).encode()
    packed = {
        "gzip -9": gzip.compress(raw, 9, mtime=0),
        "bzip2 -9": bz2.compress(raw, 9),
        "xz -9e": lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME),
    }
    return {name: 8 * len(data) / len(raw) for name, data in packed.items()}
