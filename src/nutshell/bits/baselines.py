"""What a model is compared with: the most frequent answer, what few labels teach, and common compressors."""

import bz2
import gzip
import hashlib
import lzma
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from nutshell.bits.figures.codes import Code
from nutshell.bits.figures.metrics import Columns, Metric
from nutshell.machine.errors import UserError

# Of logistic regression; chosen on held-out training reviews of IMDB, as were pairs of words; scikit-learn's own is 1.
PENALTY = 10.0
ZSTD_WINDOW_LOG = 27  # 128 MB, as `--long` has it
PPMD_BYTES = 256 << 20
PPMD_ORDERS = (4, 6, 8, 12)

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


@dataclass(frozen=True)
class Compressor:
    """A general compressor.

    Attributes:
        name: With its settings.
        compress, decompress: bytes to bytes.
        program: What has to be installed on the machine; None: nothing.
    """

    name: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]
    program: str | None = None


def _zstd(raw: bytes) -> bytes:
    import zstandard

    longest = zstandard.ZstdCompressionParameters.from_level(22, window_log=ZSTD_WINDOW_LOG, enable_ldm=True)
    return zstandard.ZstdCompressor(compression_params=longest).compress(raw)


def _unzstd(code: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=2**ZSTD_WINDOW_LOG).decompress(code)


def _brotli(raw: bytes) -> bytes:
    import brotli

    return brotli.compress(raw, quality=11, lgwin=24)  # the largest window of the package, 16 MB


def _unbrotli(code: bytes) -> bytes:
    import brotli

    return brotli.decompress(code)


def _ppmd(raw: bytes) -> bytes:
    """PPMd, variant I, at the best of a few orders: a byte that names the order, and the code."""
    import pyppmd

    codes = [bytes([order]) + pyppmd.compress(raw, max_order=order, mem_size=PPMD_BYTES) for order in PPMD_ORDERS]
    return min(codes, key=len)


def _unppmd(code: bytes) -> bytes:
    import pyppmd

    return pyppmd.decompress(code[1:], max_order=code[0], mem_size=PPMD_BYTES)


def _zpaq(raw: bytes) -> bytes:
    """The archive of one file, without its attributes."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "text").write_bytes(raw)
        _call(folder, "zpaq", "add", "code", "text", "-method", "5", "-threads", "1", "-noattributes")
        return Path(folder, "code.zpaq").read_bytes()


def _unzpaq(code: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "code.zpaq").write_bytes(code)
        _call(folder, "zpaq", "extract", "code", "-threads", "1")
        return Path(folder, "text").read_bytes()


def _call(folder: str, *words: str) -> None:
    subprocess.run(words, cwd=folder, check=True, capture_output=True)


# By the word that an experiment file may say.
COMPRESSORS = {
    "gzip": Compressor("gzip -9", lambda raw: gzip.compress(raw, 9, mtime=0), lambda code: gzip.decompress(code)),
    "bzip2": Compressor("bzip2 -9", lambda raw: bz2.compress(raw, 9), lambda code: bz2.decompress(code)),
    "xz": Compressor(
        "xz -9e",
        lambda raw: lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME),
        lambda code: lzma.decompress(code),
    ),
    "zstd": Compressor("zstd --ultra -22 --long", _zstd, _unzstd),
    "brotli": Compressor("brotli -q 11", _brotli, _unbrotli),
    "ppmd": Compressor("ppmd, 256 MB", _ppmd, _unppmd),
    "zpaq": Compressor("zpaq -m5", _zpaq, _unzpaq, program="zpaq"),
}


def installed() -> list[str]:
    """The words of the compressors that this machine has."""
    return [word for word, one in COMPRESSORS.items() if not one.program or shutil.which(one.program)]


def code(text: str, raw: bytes, compressor: Compressor) -> Code:
    """What a compressor makes of a text, decoded again; failed if that is not the text.

    Args:
        text: What it is called.
        raw: Its bytes.
        compressor: Which one.
    """
    times = [time.perf_counter()]
    packed = compressor.compress(raw)
    times.append(time.perf_counter())
    try:
        returned = compressor.decompress(packed) == raw
    except Exception:  # each decoder has errors of its own, and whichever it is, the text did not come back
        returned = False
    times.append(time.perf_counter())
    return Code(
        name=compressor.name,
        kind="compressor",
        text=text,
        text_bytes=len(raw),
        text_sha256=hashlib.sha256(raw).hexdigest(),
        code_bytes=len(packed) if returned else None,
        compress_seconds=times[1] - times[0],
        decompress_seconds=times[2] - times[1],
    )


def compressors(texts: list[str]) -> dict[str, float]:
    """Compressed bits for each byte of the UTF-8 texts, one after the other in one file.

    Returns:
        `gzip -9`, `bzip2 -9` and `xz -9e`, headers and checksums included.
    """
    raw = "".join(texts).encode()
    packed = {COMPRESSORS[word].name: COMPRESSORS[word].compress(raw) for word in ("gzip", "bzip2", "xz")}
    return {name: 8 * len(data) / len(raw) for name, data in packed.items()}
