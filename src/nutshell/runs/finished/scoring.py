"""Language models applied to new texts, each of them read from a fresh start, by the pass that measures them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy

from nutshell.data.parts import Part
from nutshell.data.text.vocabularies import Vocabulary
from nutshell.data.text.windows import encode, windows_apart
from nutshell.runs.finished.application import Application
from nutshell.runs.trainer.language import LanguageModelTrainer

# The cost of a text's tokens, how many they are, and the cost of the end of text after them, which the measured figure
# counts too.
SCORES = ("nats", "bits_per_byte", "tokens", "end_of_text_nats")


def scorer(
    models: Sequence[Any], args, vocabulary: Vocabulary, block_tokens: int, stride: int, column: str
) -> Application:
    """What each text costs: nats of its tokens given that it begins after an end of text, and bits per UTF-8 byte, None
    of an empty text.

    Args:
        models: One or more; with several the nats are the mean of theirs.
        args: TrainingArguments of the pass.
        vocabulary: The models' tokenizer.
        block_tokens, stride: Of the windows in which the experiment measures.
        column: What the texts are called.
    """
    end = vocabulary.end_of_text
    trainers = [LanguageModelTrainer(model, args, padding=end, metrics=(), eval_bytes=None) for model in models]

    def answer(part: Part) -> dict[str, list]:
        rows = encode(part.documents, vocabulary)
        every = windows_apart(rows, end, block_tokens, stride)
        costs = sum(trainer.measure(every)[1].astype(numpy.float64) for trainer in trainers) / len(trainers)
        ends = numpy.cumsum([len(ids) + 1 for ids in rows]) - 1
        nats = [float(costs[last - len(ids) : last].sum()) for last, ids in zip(ends, rows, strict=True)]
        sizes = [len(text.encode()) for text in part.documents]
        bits = [cost / math.log(2) / size if size else None for cost, size in zip(nats, sizes, strict=True)]
        return dict(zip(SCORES, (nats, bits, list(map(len, rows)), costs[ends].tolist()), strict=True))

    return Application((column,), SCORES, may_be_empty=True, answer=answer)
