"""Language models applied to new texts, each of them read from a fresh start, by the pass that measures them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from nutshell.data.encoding.vocabularies import Vocabulary
from nutshell.data.parts import Part
from nutshell.data.text.windows import encode, join, windows
from nutshell.runs.finished.application import Application
from nutshell.runs.trainer.language import LanguageModelTrainer

# The cost of a text's tokens, how many they are, and the cost of the end of text after them, where the measured figure
# counts it too.
SCORES = ("nats", "bits_per_byte", "tokens", "end_of_text_nats")


def scorer(
    models: Sequence[Any], args, vocabulary: Vocabulary, column: str, evaluation: Mapping[str, Any]
) -> Application:
    """What each text costs: nats of its tokens after a start of text, and bits per UTF-8 byte, None of an empty text.

    Args:
        models: One or more; with several the nats are the mean of theirs.
        args: TrainingArguments of the pass.
        vocabulary: The models' tokenizer.
        column: What the texts are called.
        evaluation: How the experiment measures, as `windows` takes it; but no text is another one's context.
    """
    settings = {**evaluation, "documents": "separate"}
    adds = SCORES if settings.get("count_ends", True) else SCORES[:-1]
    trainers = [LanguageModelTrainer(model, args, vocabulary=vocabulary, metrics=(), eval_sizes={}) for model in models]

    def answer(part: Part) -> dict[str, list]:
        rows = encode(part.documents, vocabulary)
        every = windows(join(rows, vocabulary), vocabulary, **settings)
        costs = numpy.zeros(len(every.tokens) - 1)
        for trainer in trainers if len(every) else ():  # empty texts alone have nothing to measure
            costs += trainer.measure(every)[1] / len(trainers)
        ends = numpy.flatnonzero(every.tokens[1:] == vocabulary.end_of_text)
        nats = [float(costs[last - len(ids) : last].sum()) for last, ids in zip(ends, rows, strict=True)]
        sizes = [len(text.encode()) for text in part.documents]
        bits = [cost / math.log(2) / size if size else None for cost, size in zip(nats, sizes, strict=True)]
        return dict(zip(adds, (nats, bits, list(map(len, rows)), costs[ends].tolist()), strict=False))

    return Application((column,), adds, may_be_empty=True, answer=answer)
