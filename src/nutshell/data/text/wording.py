"""The `prompt:` block of an experiment: its keys, and what is wrong with templates and answers."""

from collections.abc import Iterator, Mapping, Sequence
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from nutshell.data.datasets import DATASETS
from nutshell.data.readers.examples import label_word
from nutshell.data.text.templates import Template
from nutshell.experiment.blocks import Positive, Strict, Word
from nutshell.experiment.checks import Problem
from nutshell.machine.errors import UserError

Answers = dict[str, str]  # by label


def by_label(value: Any) -> Any:
    return {label_word(label): answer for label, answer in value.items()} if isinstance(value, dict) else value


class Wording(Strict):
    """A template with answers of its own."""

    template: Word
    answers: Answers

    _words = field_validator("answers", mode="before")(by_label)


class Prompting(Strict):
    """`prompt:` how texts become prompts, and answers labels."""

    templates: Annotated[list[Word | Wording], Field(min_length=1)]
    answers: Answers | None = None  # by label; None: each template has its own
    length_normalization: Literal["none", "tokens", "bytes"] = "none"
    shots: Annotated[int, Field(ge=0)] = 0
    calibration: Literal["none", "contextual", "train_median"] = "none"
    calibration_examples: Positive | None = None  # training texts of train_median; None: 100
    choose: Literal["validation"] | None = None  # which part chooses one template; None: all are reported

    _words = field_validator("answers", mode="before")(by_label)

    def wordings(self, labels: Sequence[str]) -> tuple[Template, ...]:
        """The templates, each with its answers in the order of the labels.

        Raises:
            UserError: If the answers are not to these labels, which only the data may tell.
        """
        every = []
        for place, entry in enumerate(self.templates):
            own = isinstance(entry, Wording)
            text, answers = (entry.template, entry.answers) if own else (entry, self.answers)
            if problem := answers_problem(answers, labels):
                raise UserError(f"prompt{f'.templates.{place}' * own}.answers{problem[1]}")
            every.append(Template(text, tuple(answers[label] for label in labels)))
        return tuple(every)


def known(data: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """The columns and labels of a `data:` block, None where they are not known yet; labels () where it is a number."""
    if (dataset := DATASETS.get(str(data.get("name")))) is not None:
        return dataset.layout.texts, dataset.layout.labels
    columns, labels = data.get("texts"), data.get("labels")
    columns = tuple(columns) if isinstance(columns, list) and all(isinstance(one, str) for one in columns) else None
    if data.get("target") == "number":
        return columns, ()
    return columns, tuple(map(label_word, labels)) if isinstance(labels, list) else None


def problems(prompt: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the well-formed keys of a `prompt:` block, for such a `data:` block."""
    columns, labels = known(data)
    if labels == ():
        yield ("data",), "data: an answer is to a label, and the label of this data is a number"
        return
    yield from _template_problems(prompt, columns, labels)
    if labels and (problem := median_problem(prompt.get("calibration"), labels)):
        yield ("prompt", "calibration"), problem
    if "calibration_examples" in prompt and prompt.get("calibration") != "train_median":
        path = ("prompt", "calibration_examples")
        yield path, "prompt.calibration_examples: only prompt.calibration: train_median looks at training texts"
    if "choose" in prompt and isinstance(prompt.get("templates"), list) and len(prompt["templates"]) == 1:
        yield ("prompt", "choose"), "prompt.choose: there is one template, and nothing to choose"


def median_problem(calibration: Any, labels: Sequence[str]) -> str | None:
    """Why these labels cannot be calibrated by a median; None if they can."""
    if calibration != "train_median" or len(labels) == 2:
        return None
    return f"prompt.calibration: train_median is a threshold between two labels, and this data has {len(labels)}"


def _template_problems(
    prompt: Mapping[str, Any], columns: Sequence[str] | None, labels: Sequence[str] | None
) -> Iterator[Problem]:
    entries, common = prompt.get("templates"), by_label(prompt.get("answers"))
    entries = entries if isinstance(entries, list) else []
    if _are_answers(common) and (problem := answers_problem(common, labels)):
        yield ("prompt", "answers", *problem[0]), f"prompt.answers{problem[1]}"
    seen = []
    for place, entry in enumerate(entries):
        key = f"prompt.templates.{place}"
        path: tuple[str, ...] = ("prompt", "templates", str(place))
        text, answers = (
            (entry.get("template"), by_label(entry.get("answers"))) if isinstance(entry, dict) else (entry, common)
        )
        if isinstance(text, str) and text and columns and (problem := _template_problem(text, columns)):
            yield path, f"{key}: {problem}"
        if isinstance(entry, str) and prompt.get("answers") is None:
            yield path, f"{key}: has no answers; state them in prompt.answers, or as template and answers here"
        if isinstance(entry, dict) and _are_answers(answers) and (problem := answers_problem(answers, labels)):
            yield (*path, "answers", *problem[0]), f"{key}.answers{problem[1]}"
        if (text, answers) in seen:
            yield path, f"{key}: is the same as template {seen.index((text, answers))}"
        seen.append((text, answers))
    if prompt.get("answers") is not None and entries and all(isinstance(entry, dict) for entry in entries):
        yield ("prompt", "answers"), "prompt.answers: every template has answers of its own"


def _are_answers(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(word, str) for pair in value.items() for word in pair)


def answers_problem(answers: Answers, labels: Sequence[str] | None) -> tuple[tuple[str, ...], str] | None:
    """The path below `answers` of what is wrong, and what follows that key in the message; None if nothing is.

    Args:
        answers: By label.
        labels: The data's; None where they are not known yet.
    """
    problem = _answer_problem(answers, labels)
    if problem is None:
        return None
    label, reason = problem
    return ((), f": {reason}") if label is None else ((label,), f".{label}: {reason}")


def _fields(text: str) -> list[str]:
    """The columns that a template names, in its order.

    Raises:
        ValueError: If a brace is open or stands alone.
    """
    pieces = [*Formatter().parse(text)]
    whole = [(name, spec, conversion) for _, name, spec, conversion in pieces if name is not None]
    return [name + f"!{conversion}" * bool(conversion) + f":{spec}" * bool(spec) for name, spec, conversion in whole]


def _template_problem(text: str, columns: Sequence[str]) -> str | None:
    """What is wrong with a template for texts in these columns; None if nothing is."""
    try:
        named = _fields(text)
    except ValueError:
        return "a brace is open or stands alone; a text is {column}, and {{ is a brace"
    stated = " and ".join(f"{{{column}}}" for column in columns)
    if wrong := [name for name in named if name not in columns]:
        return f"{{{wrong[0]}}} is no text of this data; it has {stated}"
    if missing := [column for column in columns if column not in named]:
        return f"{{{missing[0]}}} is missing: where the text is"
    if twice := sorted({name for name in named if named.count(name) > 1}):
        return f"{{{twice[0]}}} is in it twice"
    if text.endswith((" ", "\t")):
        return "ends with a space; tokens begin with one: let the answers begin with it instead"
    return None


def _answer_problem(answers: Mapping[str, str], labels: Sequence[str] | None) -> tuple[str | None, str] | None:
    """The label whose answer is wrong, None if it is all of them, and what is wrong; None if nothing is."""
    if labels is not None:
        if wrong := [label for label in answers if label not in labels]:
            return wrong[0], f"no label of this data; it has {', '.join(labels)}"
        if missing := [label for label in labels if label not in answers]:
            return None, f"the label {missing[0]} has none"
    seen: dict[str, str] = {}
    for label, answer in answers.items():
        if not answer.strip():
            return label, "is empty"
        if answer != answer.rstrip():
            return label, "ends with a space, which no text goes on from; leave it out"
        if answer in seen:
            return label, f"the same as that of {seen[answer]}"
        seen[answer] = label
    return None
