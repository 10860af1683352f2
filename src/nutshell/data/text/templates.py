"""Templates: how labelled texts become prompts, and labels their answers. Imports no torch."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from string import Formatter

import numpy
from tokenizers import Tokenizer

from nutshell.data.encoding.tokens import share
from nutshell.data.parts import Part
from nutshell.machine.errors import UserError, plural

SEPARATOR = "\n\n"  # after each shot
PROBES = ("N/A", "an", "7", "\n", "(")  # texts that begin in so many ways
Shot = tuple[tuple[str, ...], int]  # texts and label


@dataclass(frozen=True)
class Template:
    """Where the texts of an example are, and what answers each label.

    Attributes:
        text: With `{column}` where a text is; `{{` and `}}` are braces.
        answers: The text of each label, in the order of the labels.
    """

    text: str
    answers: tuple[str, ...]

    def fill(self, texts: Mapping[str, str]) -> str:
        """The prompt of one example, its texts by column."""
        return "".join(literal + (texts[name] if name else "") for literal, name, *_ in Formatter().parse(self.text))

    @property
    def opening(self) -> str:
        """The template up to its last text."""
        pieces = [*Formatter().parse(self.text)]
        last = max(place for place, (_, name, *_) in enumerate(pieces) if name)
        return "".join(literal + f"{{{name}}}" for literal, name, *_ in pieces[: last + 1])


def draw_shots(train: Part, apart: set[tuple[str, ...]], labels: Sequence[str], count: int, seed: int) -> list[Shot]:
    """Training examples for a prompt, as many of each label as of any other, or one more, in a mixed order.

    Args:
        train: The training part.
        apart: Texts that are measured, of which none is drawn.
        labels: What label 0, 1, ... means.
        count: How many.
        seed: The run's, which alone decides.

    Raises:
        UserError: If there are not so many.
    """
    draw = random.Random(seed)
    more = {*draw.sample(range(len(labels)), count % len(labels))}
    shots: list[Shot] = []
    for label, word in enumerate(labels):
        needed = count // len(labels) + (label in more)
        rows = [row for row in range(len(train)) if train.labels[row] == label and train.texts[row] not in apart]
        if len(rows) < needed:
            raise UserError(
                f"prompt.shots: {count} shots need {needed} of the label {word}, but the training part has "
                f"{len(rows)} that {'is' if len(rows) == 1 else 'are'} not measured too"
            )
        shots += [(train.texts[row], label) for row in draw.sample(rows, needed)]
    draw.shuffle(shots)
    return shots


def draw_texts(train: Part, apart: set[tuple[str, ...]], count: int, seed: int) -> list[tuple[str, ...]]:
    """The texts of so many training examples, whose labels are not looked at; none of those that are to stay apart.

    Raises:
        UserError: If there are not so many.
    """
    rest = [text for text in train.texts if text not in apart]
    if len(rest) < count:
        raise UserError(
            f"prompt.calibration_examples: {count} are more than the {len(rest)} training examples that are neither "
            "shots nor measured"
        )
    return random.Random(seed).sample(rest, count)


@dataclass(frozen=True)
class Prompts:
    """Everything that makes prompts of texts.

    Attributes:
        templates: One or more.
        columns: What the texts of an example are called.
        tokenizer: The model's, for which a special token spelt out is text.
        start: The token that an empty prompt becomes.
        max_tokens: Of the texts of an example together; longer ones are cut first.
        truncate: As in the experiment.
        shots: Answered examples before the question, cut alike.
        before: Ids that each prompt begins with: of a soft prompt's vectors.
    """

    templates: tuple[Template, ...]
    columns: tuple[str, ...]
    tokenizer: Tokenizer
    start: int
    max_tokens: int
    truncate: str
    shots: tuple[Shot, ...] = ()
    before: tuple[int, ...] = ()

    @cached_property
    def answers(self) -> list[list[list[int]]]:
        """The tokens of each template's answer to each label: an answer is tokenised by itself, after its prompt.

        Raises:
            UserError: If two labels' are the same tokens.
        """
        every = [[self._ids(answer) for answer in template.answers] for template in self.templates]
        for template, answers in zip(self.templates, every, strict=True):
            for place, ids in enumerate(answers):
                if ids in answers[:place] or not ids:
                    other = template.answers[answers.index(ids)]
                    raise UserError(
                        f'prompt.answers: "{template.answers[place]}" is to this tokenizer '
                        + (f'the same as "{other}"' if ids else "no token")
                    )
        return every

    @cached_property
    def examples(self) -> list[str]:
        """The shots of each template as text, each with its answer and SEPARATOR."""
        texts = self.cut([texts for texts, _ in self.shots])
        shots = [*zip(texts, (label for _, label in self.shots), strict=True)]
        return [
            "".join(template.fill(self._named(texts)) + template.answers[label] + SEPARATOR for texts, label in shots)
            for template in self.templates
        ]

    @cached_property
    def groups(self) -> list[list[int]]:
        """The templates' places, those together whose prompts are the same up to the end of the texts."""
        groups: dict[str, list[int]] = {}
        for place, (template, examples) in enumerate(zip(self.templates, self.examples, strict=True)):
            groups.setdefault(examples + template.opening, []).append(place)
        return [*groups.values()]

    @cached_property
    def heads(self) -> list[list[int]]:
        """For each group the tokens that all of its prompts begin with, however the text begins, or nearly all."""
        from nutshell.models.language.continuations import common  # which imports torch

        heads = []
        for group in self.groups:
            probes = [(probe,) * len(self.columns) for probe in PROBES]
            rows = [row[place].tolist() for row in self.rows(probes) for place in group]
            heads.append(rows[0][: common([numpy.array(row) for row in rows])])
        return heads

    def rows(self, texts: Sequence[tuple[str, ...]]) -> list[list[numpy.ndarray]]:
        """The tokens of each example's prompts, one for each template."""
        kept = [self._named(one) for one in self.cut(texts)]
        columns = []
        for template, examples in zip(self.templates, self.examples, strict=True):
            prompts = [examples + template.fill(one) for one in kept]
            encodings = self.tokenizer.encode_batch_fast(prompts, add_special_tokens=False)
            columns.append([self._whole(encoding.ids) for encoding in encodings])
        return [list(row) for row in zip(*columns, strict=True)]

    def cut(self, texts: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """Texts of at most max_tokens, the longer of two cut first, as the encoders' are; at whole characters."""
        if not texts:
            return []
        columns = [
            self.tokenizer.encode_batch([text[place] for text in texts], add_special_tokens=False)
            for place in range(len(texts[0]))
        ]
        every = []
        for row, encodings in zip(texts, zip(*columns, strict=True), strict=True):
            budgets = share([len(encoding.ids) for encoding in encodings], self.max_tokens)
            pairs = zip(row, encodings, budgets, strict=True)
            every.append(tuple(_cut(text, encoding.offsets, budget, self.truncate) for text, encoding, budget in pairs))
        return every

    def check_length(self, most: int | None, before: int = 0) -> None:
        """Passes prompts that fit with their answers into a model's context, however long a text is.

        Args:
            most: The model's positions; None if there is no limit.
            before: How many vectors there will be before each.

        Raises:
            UserError: With the numbers, if one does not.
        """
        if most is None:
            return
        empty = dict.fromkeys(self.columns, "")
        for number, (template, examples, answers) in enumerate(
            zip(self.templates, self.examples, self.answers, strict=True), 1
        ):
            own, shots = len(self._ids(template.fill(empty))), len(self._ids(examples)) if examples else 0
            answer = max(map(len, answers))
            if (needed := before + own + shots + self.max_tokens + answer) > most:
                left = self.max_tokens - needed + most
                soft = f", the soft prompt before it {before:,}" * bool(before)
                instead = f"state data.max_tokens {left}" if left >= 8 else "choose fewer prompt.shots"
                if left >= 8 and self.shots:
                    instead += ", or fewer prompt.shots (these are cut alike)"
                raise UserError(
                    f"prompt.templates: template {number} has {own} tokens, its {plural(len(self.shots), 'shot')} "
                    f"{shots:,}{soft}, a text up to {self.max_tokens:,} and an answer {answer}: {needed:,}, more than "
                    f"the {most:,} positions of the model; {instead}"
                )

    def of(self, places: Sequence[int]) -> "Prompts":
        """Those with some of the templates alone."""
        return replace(self, templates=tuple(self.templates[place] for place in places))

    def longest(self, rows: Sequence[Sequence[numpy.ndarray]]) -> int:
        """The most tokens that are fed with an answer."""
        most = [max(map(len, answers)) for answers in self.answers]
        return max(len(ids) + more for row in rows for ids, more in zip(row, most, strict=True))

    def _named(self, texts: tuple[str, ...]) -> dict[str, str]:
        return dict(zip(self.columns, texts, strict=True))

    def _whole(self, ids: list[int]) -> numpy.ndarray:
        return numpy.array([*self.before, *ids] or [self.start], numpy.int32)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids


def _cut(text: str, offsets: Sequence[tuple[int, int]], budget: int, truncate: str) -> str:
    """A text's first or last tokens, or both; a character of several tokens is kept whole or left out."""
    if len(offsets) <= budget:
        return text
    head = {"head": budget, "tail": 0, "head_tail": min(128, budget // 2)}[truncate]
    first = text[: min(offsets[head - 1][1], offsets[head][0])] if head else ""
    if head == budget:
        return first
    last = text[offsets[len(offsets) - (budget - head) - 1][1] :]  # after the last token that is left out
    return first + last if head else last.lstrip()
