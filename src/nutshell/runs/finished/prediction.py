"""Classifiers, and models of a number, applied to new texts by the pass that measures them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy

from nutshell.data import tokenizers, tokens
from nutshell.data.parts import Part
from nutshell.runs.finished.application import Application
from nutshell.runs.trainer.classifier import ClassifierTrainer, answers
from nutshell.runs.trainer.order import in_data_order, longest_first


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
        order = longest_first([len(row) for row in ids])  # as a measured part is read
        tokenized = datasets.Dataset.from_dict({"input_ids": ids, "token_type_ids": types}).select(order)
        every = [answers(trainer.predict(tokenized)) for trainer in trainers]
        wanted = "probabilities" if labels else "predicted"
        mean = in_data_order(sum(one[wanted] for one in every) / len(every), order)
        if not labels:
            return {"predicted": mean.tolist()}
        predicted = mean.argmax(1) if len(every) > 1 else in_data_order(every[0]["predicted"], order)
        probabilities = {f"probability_{label}": mean[:, place].tolist() for place, label in enumerate(labels)}
        return {"predicted": [labels[number] for number in predicted], **probabilities}

    adds = ("predicted", *(f"probability_{label}" for label in labels))
    return Application(columns, adds, may_be_empty=False, answer=answer)
