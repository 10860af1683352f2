"""The data sets by name: what an example is, what is measured on it, where it is kept; the `data:` blocks."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from nutshell.data.parts import Origin
from nutshell.experiment.blocks import Data, Positive
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


@dataclass(frozen=True)
class Dataset(Text):
    """One data set with labels.

    Attributes:
        texts: The columns that hold text, in the order a model reads them; `label` is next to them.
        labels: What label 0, 1, ... means.
        metrics: What is reported, the most important first.
        extra: Further columns that its published files have, which are not read.
    """

    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


IMDB = Origin("stanfordnlp/imdb", "plain_text", "e6281661ce1c48d982bc483cf8a173c1bbeb5d31")
PAIRS = {
    "texts": ("sentence1", "sentence2"),
    "labels": ("not_equivalent", "equivalent"),
    "metrics": ("accuracy", "f1", "label_bits"),
}
REVIEWS = {"texts": ("text",), "labels": ("negative", "positive"), "metrics": ("accuracy", "label_bits")}
DATASETS = {
    "mrpc": Dataset(
        Origin("nyu-mll/glue", "mrpc", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"), extra=("idx",), **PAIRS
    ),
    "imdb": Dataset(IMDB, **REVIEWS),
    "sample_pairs": Dataset(embedded="samples/pairs", **PAIRS),
    "sample_reviews": Dataset(embedded="samples/reviews", **REVIEWS),
}
TEXTS = {
    "imdb": Text(IMDB),
    "wikitext2": Text(Origin("Salesforce/wikitext", "wikitext-2-raw-v1", "b08601e04326c79dfdd32d625aee71d232d685c3")),
    "sample_text": Text(),
    "text": Text(),
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
        return self.local[0] if self.local and self.local[0].is_dir() else None


class LabelledData(Registered):
    """`data:` which labelled examples, and how their text becomes tokens."""

    name: Literal[tuple(DATASETS)]
    max_tokens: Annotated[int, Field(ge=8)] = 128
    truncate: Literal["head", "tail", "head_tail"] = "head"
    train_examples: Positive | None = None
    validation_examples: Positive | None = None

    @property
    def known(self) -> Dataset:
        return DATASETS[self.name]

    @property
    def example_tokens(self) -> int:
        return self.max_tokens


class TextData(Registered):
    """`data:` which text, how much of it, in blocks of how many tokens."""

    name: Literal[tuple(TEXTS)]
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
    entry = known.get(str(data.get("name")))
    if entry is None or not data.get("revision"):
        return
    if data.get("path"):
        yield (
            ("data", "revision"),
            "data.revision is a commit on the Hub and data.path a folder: state one of them",
        )
    elif not entry.origin:
        where = "is read from data.path" if data["name"] == "text" else "is embedded"
        yield ("data", "revision"), f"data.revision: {data['name']} {where} and has no revision"


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
        if folder.is_dir():
            return folder, "local copy"
        reason = "not a folder" if folder.exists() else "a link to nothing" if folder.is_symlink() else ""
        raise UserError(f"{folder}: {f'is {reason}' if reason else 'no such folder'} ({key} names it)")
    if not data.from_hub:
        return Path(__file__).parent / data.known.embedded, "embedded in nutshell"
    instead = (
        f"without a network, name a local copy in data.path or put it in $NUTSHELL_DATA/{data.name}, "
        f"or take the embedded {embedded}"
    )
    origin = data.from_hub
    folder = hub.fetch(origin.repository, origin.revision, [f"{origin.folder}/*.parquet"], "dataset", instead)
    return folder / origin.folder, f"Hub {origin.repository}@{origin.revision}"
