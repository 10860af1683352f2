"""The data sets by name: what an example is, what is measured on it, where the Hub keeps it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dataset:
    """One data set.

    Attributes:
        texts: The columns that hold text, in the order BERT reads them; `label` stands beside them.
        labels: What label 0, 1, ... means.
        directions: The metrics that are reported, each with whether more of it is better.
        repository, folder, revision: Where the Hub keeps it; None where it is embedded in this package.
        extra: Further columns that its published files have, which are not read.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    directions: dict[str, bool]
    repository: str | None = None
    folder: str | None = None
    revision: str | None = None
    extra: tuple[str, ...] = ()


PAIRS = {
    "texts": ("sentence1", "sentence2"),
    "labels": ("not_equivalent", "equivalent"),
    "directions": {"accuracy": True, "f1": True, "label_bits": False},
}
REVIEWS = {
    "texts": ("text",),
    "labels": ("negative", "positive"),
    "directions": {"accuracy": True, "label_bits": False},
}
DATASETS = {
    "mrpc": Dataset(
        **PAIRS,
        repository="nyu-mll/glue",
        folder="mrpc",
        revision="bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
        extra=("idx",),
    ),
    "imdb": Dataset(
        **REVIEWS,
        repository="stanfordnlp/imdb",
        folder="plain_text",
        revision="e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
    ),
    "sample_pairs": Dataset(**PAIRS),
    "sample_reviews": Dataset(**REVIEWS),
}


@dataclass(frozen=True)
class Text:
    """One text to model, with where the Hub keeps it; None where it is embedded or the user's own."""

    repository: str | None = None
    folder: str | None = None
    revision: str | None = None


TEXTS = {
    "imdb": Text(DATASETS["imdb"].repository, DATASETS["imdb"].folder, DATASETS["imdb"].revision),
    "wikitext2": Text(
        repository="Salesforce/wikitext",
        folder="wikitext-2-raw-v1",
        revision="b08601e04326c79dfdd32d625aee71d232d685c3",
    ),
    "sample_text": Text(),
    "text": Text(),
}
