"""Classifiers, and models of a number, applied to new texts by the pass that measures them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy

from nutshell.data.encoding import tokenizers, tokens
from nutshell.data.parts import Part
from nutshell.runs.finished.application import Application
from nutshell.runs.trainer.classifier import ClassifierTrainer


def predictor(models: Sequence[Any], args, checkpoint: Path, data, columns: tuple[str, ...]) -> Application:
    """The class of each text and the probability of each, or the number that the models answer with.

    Args:
        models: One or more; with several the answer is the mean of their probabilities, or of their numbers.
        args: TrainingArguments of the pass.
        checkpoint: The folder of one of them, for its tokenizer.
        data: The experiment's block, which says how a text is cut.
        columns: What the texts are called.
    """
    collator = tokenizers.Collator(tokenizers.for_transformers(checkpoint, data.max_tokens, data.truncate))
    trainers = [ClassifierTrainer(model, args, data_collator=collator, metrics=()) for model in models]
    for trainer in trainers:
        trainer.compute_metrics = None  # there are no labels
    config, tokenizer = models[0].config, tokenizers.load_tokenizer(checkpoint)[0]
    labels = [config.id2label[number] for number in range(config.num_labels)] if config.num_labels > 1 else []

    def answer(part: Part) -> dict[str, list]:
        encoded = tokens.encode(part, tokenizer, data.max_tokens, data.truncate)
        rows = [(numpy.array(ids, numpy.int32), numpy.array(types, numpy.int8)) for ids, types, _ in encoded]
        ids, types = map(list, zip(*rows, strict=True))
        encodings = {"input_ids": ids, "token_type_ids": types, "length": list(map(len, ids))}
        tokenized = datasets.Dataset.from_dict(encodings)
        every = [trainer.answers(tokenized)[0] for trainer in trainers]  # as a measured part is read
        wanted = "probabilities" if labels else "predicted"
        mean = sum(one[wanted] for one in every) / len(every)
        if not labels:
            return {"predicted": mean.tolist()}
        predicted = mean.argmax(1) if len(every) > 1 else every[0]["predicted"]
        probabilities = {f"probability_{label}": mean[:, place].tolist() for place, label in enumerate(labels)}
        return {"predicted": [labels[number] for number in predicted], **probabilities}

    adds = ("predicted", *(f"probability_{label}" for label in labels))
    return Application(columns, adds, may_be_empty=False, answer=answer)
