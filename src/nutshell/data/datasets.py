"""The data sets by name: what an example is, what is measured on it, where it is kept; the `data:` blocks."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from nutshell.data import glue
from nutshell.data.parts import Origin
from nutshell.data.readers.examples import Layout, label_word
from nutshell.data.readers.files import PART_NAMES
from nutshell.data.readers.rows import READERS
from nutshell.experiment.blocks import Data, Positive, Word
from nutshell.experiment.checks import Problem
from nutshell.machine import hub
from nutshell.machine.errors import UserError


@dataclass(frozen=True)
class Text:
    """One text to model.

    Attributes:
        origin: Where the Hub keeps it; None where it is embedded or the user's own.
        embedded: The folder of this package that it is in.
    """

    origin: Origin | None = None
    embedded: str | None = None


@dataclass(frozen=True, kw_only=True)
class Dataset(Text):
    """One data set with labels.

    Attributes:
        layout: What its columns are.
        metrics: What is reported, the most important first; None: whatever fits its labels.
        benchmark: The task of GLUE that it is; None if it is none.
    """

    layout: Layout
    metrics: tuple[str, ...] | None = None
    benchmark: glue.GlueTask | None = None


IMDB = Origin("stanfordnlp/imdb", "plain_text", "e6281661ce1c48d982bc483cf8a173c1bbeb5d31")
REVIEWS = {"layout": Layout(("text",), ("negative", "positive")), "metrics": ("accuracy", "label_bits")}
MRPC = glue.TASKS["mrpc"]
TABLE = "table"  # the user's own
DATASETS = {
    "imdb": Dataset(origin=IMDB, **REVIEWS),
    "sample_pairs": Dataset(embedded="samples/pairs", layout=Layout(MRPC.texts, MRPC.labels), metrics=MRPC.metrics),
    "sample_reviews": Dataset(embedded="samples/reviews", **REVIEWS),
    **{
        name: Dataset(origin=glue.origin(name), layout=task, metrics=task.metrics, benchmark=task)
        for name, task in glue.TASKS.items()
    },
}
TEXT = "text"  # the user's own
TEXTS = {
    "imdb": Text(IMDB),
    "wikitext2": Text(Origin("Salesforce/wikitext", "wikitext-2-raw-v1", "b08601e04326c79dfdd32d625aee71d232d685c3")),
    "sample_text": Text(),
    TEXT: Text(),
}


class Registered(Data):
    """A block whose `name` is in a registry."""

    @property
    @abstractmethod
    def known(self) -> Text:
        """The registry's entry."""

    @property
    def pinned(self) -> str | None:
        return self.known.origin and self.known.origin.revision

    @property
    def from_hub(self) -> Origin | None:
        """Where on the Hub it is read; None for what is embedded or local."""
        if not self.known.origin or self.local:
            return None
        origin = self.known.origin
        return replace(origin, revision=self.revision or origin.revision)

    def reads(self, files: Mapping[str, list[Path]]) -> Mapping[str, list[Path]] | str:
        """What a figure depends on: the commit on the Hub, or else these local files."""
        origin = self.from_hub
        return f"{origin.repository}@{origin.revision}" if origin else files

    @property
    def local(self) -> tuple[Path, str] | None:
        """The folder that a local copy is in, which may not be there, and what names it; None without one."""
        if self.path:
            return Path(self.path).expanduser(), "data.path"
        if self.known.origin and os.environ.get("NUTSHELL_DATA"):
            return Path(os.environ["NUTSHELL_DATA"]).expanduser() / self.name, "NUTSHELL_DATA"
        return None

    @property
    def local_folder(self) -> Path | None:
        """The folder that a local copy is in; None without one, or where it is no folder."""
        # Before 3.14 Path's own raises for a name that is too long.
        return self.local[0] if self.local and os.path.isdir(self.local[0]) else None


class LabelledData(Registered):
    """`data:` which labelled examples, and how their text becomes tokens; of a table also which columns it has."""

    name: Literal[TABLE, *DATASETS]
    repository: Word | None = None  # on the Hub; path is then a file or folder in it
    texts: Annotated[list[Word], Field(min_length=1, max_length=2)] | None = None
    label: Word | None = None
    labels: Annotated[list[Word], Field(min_length=2)] | None = None  # None: those of the training part, sorted
    target: Literal["class", "number"] | None = None  # None: class
    max_tokens: Annotated[int, Field(ge=8)] = 128
    truncate: Literal["head", "tail", "head_tail"] = "head"
    train_examples: Positive | None = None
    validation_examples: Positive | None = None
    test_examples: Positive | None = None
    reported_examples: Positive | None = None  # of the reported part, as many of each label as its share
    reported: Literal["validation"] | None = None  # although there is a test part with labels, which is then answered

    @field_validator("labels", mode="before")
    @classmethod
    def _check_words(cls, value: Any) -> Any:
        return [label_word(label) for label in value] if isinstance(value, list) else value

    @field_validator("texts", "labels")
    @classmethod
    def _check_differ(cls, value: list[str] | None) -> list[str] | None:
        if value and len({*value}) < len(value):
            raise ValueError("one of them is in it twice")
        return value

    @property
    def known(self) -> Dataset:
        if self.name != TABLE:
            return DATASETS[self.name]
        labels = () if self.target == "number" else self.labels and tuple(self.labels)
        layout = Layout(tuple(self.texts), labels, label=self.label, strict=False)
        origin = Origin(self.repository, self.path or "", self.revision) if self.repository else None
        return Dataset(origin=origin, layout=layout)

    @property
    def pinned(self) -> str | None:
        return None if self.name == TABLE else super().pinned

    @property
    def local(self) -> tuple[Path, str] | None:
        if self.name != TABLE:
            return super().local
        return None if self.repository else (Path(self.path).expanduser(), "data.path")

    @property
    def local_folder(self) -> Path | None:
        if self.name != TABLE:
            return super().local_folder
        return self.local[0] if self.local and os.path.exists(self.local[0]) else None

    @property
    def example_tokens(self) -> int:
        return self.max_tokens


class TextData(Registered):
    """`data:` which text, how much of it, in blocks of how many tokens."""

    name: Literal[tuple(TEXTS)]
    column: Word | None = None  # of a table of the user's own, whose rows are a document each
    block_tokens: Annotated[int, Field(ge=8)] = 128
    train_bytes: Positive | None = None
    validation_bytes: Positive | None = None
    test_bytes: Positive | None = None

    @property
    def known(self) -> Text:
        return TEXTS[self.name]

    @property
    def example_tokens(self) -> int:
        return self.block_tokens


def problems(data: Mapping[str, Any], known: Mapping[str, Text]) -> Iterator[Problem]:
    """What is wrong with the well-formed keys of a `data:` block together."""
    if data.get("name") == TABLE:
        yield from _table_problems(data)
        return
    name = str(data.get("name"))
    entry = known.get(name)
    if entry is None:
        return
    if name == TEXT and not data.get("path"):
        yield ("data",), "data.path is missing: a text file, or a folder of them"
    if name == "sample_text" and data.get("path"):
        yield ("data", "path"), f"data.path: sample_text is embedded; a text of your own is data.name: {TEXT}"
    if name != TEXT and data.get("column"):
        yield ("data", "column"), f"data.column: names the texts in a table of your own, which is data.name: {TEXT}"
    for key in ("repository", "texts", "label", "labels", "target"):
        if data.get(key) is not None and isinstance(entry, Dataset):  # of a text they are unknown keys
            yield ("data", key), f"data.{key}: {name} has its own; a table of your own is data.name: {TABLE}"
    for key in ("validation_examples", "test_examples"):
        if data.get(key) is not None and isinstance(entry, Dataset) and (splits := entry.layout.splits):
            halves = " and ".join(splits)
            yield ("data", key), f"data.{key}: {name} is measured on {halves}; its training part has neither"
    if not data.get("revision"):
        return
    if data.get("path"):
        yield (
            ("data", "revision"),
            "data.revision is a commit on the Hub and data.path a folder: state one of them",
        )
    elif not entry.origin:
        where = "is read from data.path" if name == TEXT else "is embedded"
        yield ("data", "revision"), f"data.revision: {name} {where} and has no revision"


def _table_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    if not data.get("repository"):
        if not data.get("path"):
            yield (
                ("data",),
                "data.path is missing: a file or a folder; or data.repository and data.revision, on the Hub",
            )
        if data.get("revision"):
            yield ("data", "revision"), "data.revision is a commit of data.repository, which is not stated"
    else:
        if not data.get("revision"):
            yield ("data",), "data.revision is missing: the commit of data.repository, 40 hexadecimal digits"
        path = PurePosixPath(str(data.get("path", "")))
        if path.is_absolute() or ".." in path.parts:  # what is read there would be said to come from the Hub
            yield ("data", "path"), f"data.path: {path} leads out of data.repository, in which it is a file or folder"
    for key, meaning in (("texts", "the column with text, or two for pairs"), ("label", "the column with the label")):
        if not data.get(key):
            yield ("data",), f"data.{key} is missing: {meaning}"
    if isinstance(data.get("texts"), list) and data.get("label") in data["texts"]:
        yield ("data", "label"), f"data.label: {data['label']} is one of data.texts"
    if data.get("target") == "number" and data.get("labels"):
        yield ("data", "labels"), "data.labels: a number has none; data.target is number"


def find(data: Registered, embedded: str) -> tuple[Path, str]:
    """The folder to read and its description: the stated path, the NUTSHELL_DATA folder, this package, the Hub.

    Args:
        data: The block.
        embedded: What to take instead without a network, for the message.

    Raises:
        UserError: If it is not there, or the Hub cannot be reached.
    """
    if data.local:
        folder, key = data.local
        if data.revision:
            raise UserError("data.revision names a commit on the Hub, but NUTSHELL_DATA names a local copy: unset one")
        if data.local_folder:
            return folder, "local copy"
        reason = "not a folder" if os.path.exists(folder) else "a link to nothing" if os.path.islink(folder) else ""
        missing = "no such file or folder" if data.name == TABLE else "no such folder"
        raise UserError(f"{folder}: {f'is {reason}' if reason else missing} ({key} names it)")
    if not data.from_hub:
        return Path(__file__).parent / data.known.embedded, "embedded in nutshell"
    origin, other = data.from_hub, f" or put it in $NUTSHELL_DATA/{data.name}" * bool(data.pinned)
    instead = f"without a network, name a local copy in data.path{other}, or take the embedded {embedded}"
    folder = hub.fetch(origin.repository, origin.revision, _patterns(data, origin), "dataset", instead)
    return folder / origin.folder, f"Hub {origin.repository}@{origin.revision}"


def _patterns(data: Registered, origin: Origin) -> list[str]:
    """Which of a repository's files are fetched: of a table on the Hub what its path names, or else what is named for a
    part."""
    if data.pinned:
        return [f"{origin.folder}/*.parquet"]
    endings = [f"*{suffix}{packed}" for suffix in READERS for packed in ("", ".gz")]
    if origin.folder:
        return [origin.folder, *(f"{origin.folder}/{ending}" for ending in endings)]
    words = [word for words in PART_NAMES.values() for word in words]
    return [f"{place}{ending}" for place in ("data/", *words) for ending in endings]
