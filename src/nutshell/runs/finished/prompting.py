"""What a prompt run leaves behind to answer new texts: its prompts, and which model reads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from nutshell.bits.figures import calibration
from nutshell.data.encoding import vocabularies
from nutshell.data.parts import Part
from nutshell.data.text.templates import Prompts, Template
from nutshell.machine.errors import UserError
from nutshell.machine.files import read_json, write_json
from nutshell.machine.provenance import digests
from nutshell.models.find import files, find, read_config
from nutshell.models.language import architectures
from nutshell.runs.finished.application import Application

NAME = "prompt.json"
VERSION = 1  # counted up when the layout of the file changes


def save(folder: Path, experiment, prompts: Prompts, offsets: numpy.ndarray, labels: Sequence[str]) -> None:
    """Writes `prompt.json`: templates, shots, calibration and a pointer to the model, whose weights are not copied.

    Args:
        folder: Where; it is made.
        experiment: The run's.
        prompts, offsets: By which the reported part was measured.
        labels: What label 0, 1, ... means.
    """
    model = experiment.model
    folder.mkdir(exist_ok=True)
    content = {
        "version": VERSION,
        "model": {"name": model.name, "revision": model.revision},
        "read": _digest(model.name, model.revision),
        "labels": list(labels),
        "columns": list(prompts.columns),
        "templates": [{"text": one.text, "answers": list(one.answers)} for one in prompts.templates],
        "shots": [[list(texts), label] for texts, label in prompts.shots],
        "adapter": experiment.adapter and experiment.adapter.kind,
        "before": list(prompts.before),
        "max_tokens": prompts.max_tokens,
        "truncate": prompts.truncate,
        "length_normalization": experiment.prompt.length_normalization,
        "offsets": offsets.tolist(),
    }
    write_json(folder / NAME, content)


def load(folder: Path):
    """The model that a run's prompts are for, with what its adapter has learned, in fp32.

    Raises:
        UserError: If it is not there any more, or has changed.
    """
    from nutshell.models.language import build, soft_prompt

    model, before = build.load(find_model(folder)), _read(folder)["before"]
    if before:
        soft_prompt.attach(model, soft_prompt.read(folder.with_name("adapter")))
    return model


def find_model(folder: Path) -> Path:
    """The checkpoint that a run's prompts are for: its own, where low-rank adapters were merged into it.

    Raises:
        UserError: If it is not there any more, or has changed.
    """
    content = _read(folder)
    if content["adapter"] and not content["before"]:
        return find(str(folder), None, architectures.CAUSAL)
    name, revision = content["model"]["name"], content["model"]["revision"]
    checkpoint = find(name, revision, architectures.CAUSAL)
    if _digest(name, revision) != content["read"]:
        raise UserError(f"{name}: its files have changed since {folder.parent} was measured with them")
    return checkpoint


def predictor(folders: Sequence[Path], models: Sequence[Any], args) -> Application:
    """The label of each text and the probability of each; of several templates and models the mean probability.

    Args:
        folders: Where `save` wrote, one for each model.
        models: The models, in fp32.
        args: TrainingArguments of the pass.
    """
    from nutshell.runs.trainer.prompt import PromptTrainer

    contents = [_read(folder) for folder in folders]
    trainers = []
    for folder, content, model in zip(folders, contents, models, strict=True):
        checkpoint = find_model(folder)
        config = read_config(checkpoint)
        prompts = _prompts(content, vocabularies.of_checkpoint(checkpoint, config))
        context = architectures.context(config)
        trainers.append(PromptTrainer(model, args, prompts, context, content["length_normalization"]))
    labels, columns = contents[0]["labels"], contents[0]["columns"]

    def answer(part: Part) -> dict[str, list]:
        every = [
            numpy.exp(calibration.log_probabilities(trainer.scores(part.texts)[0], numpy.array(content["offsets"])))
            for trainer, content in zip(trainers, contents, strict=True)
        ]
        mean = sum(one.mean(1) for one in every) / len(every)
        probabilities = {f"probability_{label}": mean[:, place].tolist() for place, label in enumerate(labels)}
        return {"predicted": [labels[number] for number in mean.argmax(-1)], **probabilities}

    adds = ("predicted", *(f"probability_{label}" for label in labels))
    return Application(tuple(columns), adds, may_be_empty=False, answer=answer)


def _prompts(content: Mapping[str, Any], vocabulary: vocabularies.Vocabulary) -> Prompts:
    return Prompts(
        tuple(Template(one["text"], tuple(one["answers"])) for one in content["templates"]),
        tuple(content["columns"]),
        vocabulary.tokenizer,
        vocabulary.start_of_text,
        content["max_tokens"],
        content["truncate"],
        tuple((tuple(texts), label) for texts, label in content["shots"]),
        tuple(content["before"]),
    )


def _read(folder: Path) -> dict[str, Any]:
    try:
        content = read_json(folder / NAME)
        if content["version"] == VERSION:
            return content
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f"{folder / NAME}: is missing, damaged or of another version; run the seed again with --force")


def _digest(name: str, revision: str | None) -> str | None:
    """sha256 of a local checkpoint's files; None of what cannot change."""
    return digests({"model": files(name, revision)}).get("model")
