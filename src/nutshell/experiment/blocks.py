"""What an experiment file may say: its blocks, and one class for each word that `task:` may be."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from nutshell.data.datasets import DATASETS, TEXTS
from nutshell.experiment import generation_keys, training_keys
from nutshell.models import config_keys


class Strict(BaseModel):
    """Unknown keys and wrong types are errors; nothing is converted but a whole number to a float."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


Word = Annotated[str, Field(min_length=1)]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Positive = Annotated[int, Field(ge=1)]
Band = Annotated[list[float], Field(min_length=2, max_length=2)]


class Checkpoint(Strict):
    """`model:` of generate: which checkpoint."""

    name: Word  # minilm, a folder, an earlier run's folder, or with a revision a name on the Hub
    revision: Commit | None = None


class Classifier(Checkpoint):
    """`model:` of classify: which checkpoint, which of its parameters are trained, and with how much dropout."""

    trainable: Annotated[str, Field(pattern=r"^(all|head|last_[1-9][0-9]*)$")] = "all"
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None  # of states and attention; None: the checkpoint's own


class Causal(Strict):
    """`model:` of language_model: a checkpoint with its tokenizer, or a new model and the tokenizer made for it."""

    name: Word | None = None
    revision: Commit | None = None
    config: dict[str, Any] | None = None
    tokenizer: Literal["bytes", "bpe"] | None = None
    vocab_size: Annotated[int, Field(ge=257)] | None = None  # of bpe: 256 bytes, the end of text, the merges

    @field_validator("config", mode="before")
    @classmethod
    def _checked_by_the_model_s_config(cls, value: Any) -> Any:
        return value if value is None else config_keys.check(value)


class LabelledData(Strict):
    """`data:` of classify: which examples, and how their text becomes tokens."""

    name: Literal[tuple(DATASETS)]
    path: Word | None = None
    revision: Commit | None = None
    max_tokens: Annotated[int, Field(ge=8)] = 128
    truncate: Literal["head", "tail", "head_tail"] = "head"
    train_examples: Positive | None = None
    validation_examples: Positive | None = None


class TextData(Strict):
    """`data:` of language_model: which text, how much of it, in blocks of how many tokens."""

    name: Literal[tuple(TEXTS)]
    path: Word | None = None
    revision: Commit | None = None
    block_tokens: Annotated[int, Field(ge=8)] = 128
    train_bytes: Positive | None = None
    validation_bytes: Positive | None = None
    test_bytes: Positive | None = None


class Evaluation(Strict):
    """`evaluation:` how the final figure is measured."""

    stride: Positive | None = None  # tokens; None: the block, windows that do not overlap


class Predicting(Strict):
    """`training:` of generate, which trains nothing."""

    per_device_eval_batch_size: Positive = 8  # continuations side by side


class Reference(Strict):
    """`reference:` the published band that a metric must land in, [lowest, highest], and where it is published."""

    source: Word

    def bands(self) -> dict[str, list[float]]:
        """The bands that are stated, by metric."""
        return self.model_dump(exclude={"source"}, exclude_none=True)


class ClassifierReference(Reference):
    """Published figures of a classifier."""

    accuracy: Band | None = None
    f1: Band | None = None
    label_bits: Band | None = None


class CausalReference(Reference):
    """Published figures of a language model."""

    perplexity: Band | None = None
    bits_per_byte: Band | None = None


class Experiment(Strict):
    """One experiment file: one question."""

    task: str
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]

    _file: Path
    _overrides: list[str] = []  # of the command line, but for the seeds

    @field_validator("training", mode="before", check_fields=False)
    @classmethod
    def _checked_by_training_arguments(cls, value: Any) -> Any:
        return cls.training_schema().model_validate(value).model_dump(exclude_unset=True)

    @field_validator("generation", mode="before", check_fields=False)
    @classmethod
    def _checked_as_generation_config(cls, value: Any) -> dict[str, Any]:
        return generation_keys.schema().model_validate(value).model_dump(exclude_unset=True)

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("a seed stands in it twice")
        return value

    @property
    def place(self) -> Path:
        """Where the results live below the outputs root: `<chapter>/<name>`, from the file's own path."""
        return Path(self._file.resolve().parent.name) / self._file.stem

    def resolved(self, seed: int | None = None) -> dict[str, Any]:
        """The experiment as plain data, own defaults filled in; with a seed, that seed's run alone."""
        plain = self.model_dump()
        if seed is None:
            return plain
        del plain["seeds"]
        return {"task": plain.pop("task"), "seed": seed, **plain}

    @staticmethod
    def training_schema() -> type[BaseModel]:
        """What `training:` may hold."""
        return training_keys.schema()

    @classmethod
    def training_defaults(cls) -> dict[str, Any]:
        """What each key of `training:` falls back to."""
        return {name: field.default for name, field in cls.training_schema().model_fields.items()}


class Classify(Experiment):
    """Fine-tunes a classifier."""

    task: Literal["classify"]
    global_batch_size: Positive | None = None  # examples of a step; how they are split follows from the launch
    model: Classifier
    data: LabelledData
    training: dict[str, Any] = {}
    reference: ClassifierReference | None = None


class LanguageModel(Experiment):
    """Trains or fine-tunes a language model, or measures it as it is."""

    task: Literal["language_model"]
    global_batch_size: Positive | None = None
    model: Causal
    data: TextData
    training: dict[str, Any] = {}
    evaluation: Evaluation = Evaluation()
    samples: list[Word] = []
    generation: dict[str, Any] = {}
    reference: CausalReference | None = None

    @staticmethod
    def training_schema() -> type[BaseModel]:
        """What `training:` may hold; num_train_epochs: 0 measures a checkpoint as it is."""
        return training_keys.schema(untrained=True)


class Generate(Experiment):
    """Continues prompts."""

    task: Literal["generate"]
    model: Checkpoint
    prompts: list[str] | Word  # themselves, or a file with one on each line
    samples_per_prompt: Positive = 1
    greedy: bool = False  # beside the samples, each prompt's most likely continuation
    generation: dict[str, Any] = {}
    training: dict[str, Any] = {}

    @field_validator("prompts", mode="before")
    @classmethod
    def _texts_or_a_file(cls, value: Any) -> Any:
        texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
        if not texts and not (isinstance(value, str) and value):
            raise ValueError(f"expected a list of texts, or the name of a file with one on each line, not {value!r}")
        return value

    @staticmethod
    def training_schema() -> type[BaseModel]:
        """What `training:` may hold where nothing is trained."""
        return Predicting


EXPERIMENTS: dict[str, type[Experiment]] = {
    "classify": Classify,
    "language_model": LanguageModel,
    "generate": Generate,
}
