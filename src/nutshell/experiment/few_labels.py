"""What an experiment may learn from few labels: the adapter that it trains, the baselines that it is compared with."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from nutshell.experiment.blocks import Experiment, Lora, Positive, Strict, Word
from nutshell.experiment.checks import Blocks, Problem

Few = Annotated[int, Field(ge=2)]  # of all labels together
OF_KIND = {"lora": ("rank", "alpha"), "soft_prompt": ("tokens", "text")}  # what each must state
MAY = {"lora": ("dropout",), "soft_prompt": ()}
UNTRAINED = "per_device_eval_batch_size"  # the key of `training:` that needs no training


class Baselines(Strict):
    """`baselines:` what is learned from how many labels of the training part, without a prompt."""

    bag_of_words: list[Few] = Field(default_factory=list)
    sentence_embeddings: list[Few] = Field(default_factory=list)

    @field_validator("bag_of_words", "sentence_embeddings")
    @classmethod
    def _check_counts(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("a number is in it twice")
        return value

    @property
    def counts(self) -> list[tuple[str, int]]:
        """The name of each baseline and its labels."""
        return [(name, count) for name in Baselines.model_fields for count in getattr(self, name)]


class Adapter(Strict):
    """`adapter:` what is trained on few answered prompts, while the model's own weights stay as they are."""

    kind: Literal["lora", "soft_prompt"]
    examples: Few
    rank: Positive | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    tokens: Positive | None = None  # vectors of a soft prompt
    text: Word | None = None  # whose tokens' vectors they are at first, again and again or cut

    @property
    def lora(self) -> Lora:
        """Its low-rank adapters, as models.adapters takes them."""
        return Lora(rank=self.rank, alpha=self.alpha, dropout=self.dropout or 0.0)


def problems(plain: Mapping[str, Any], blocks: Blocks) -> Iterator[Problem]:
    """What is wrong with the well-formed keys of an experiment that may have an adapter."""
    training = blocks["training"]
    yield from _seed_problems(plain, blocks)
    if plain.get("adapter") is None:
        for key in training.keys() - {UNTRAINED}:
            yield ("training", key), f"training.{key}: nothing is trained without adapter"
        for key in ("global_batch_size", "early_stopping"):
            if plain.get(key) is not None:
                yield (key,), f"{key}: nothing is trained without adapter"
        return
    yield from _adapter_problems(blocks["adapter"])
    yield from _training_problems(training)
    prompt = blocks["prompt"]
    if isinstance(prompt.get("templates"), list) and len(prompt["templates"]) > 1:
        path = ("prompt", "templates")
        yield (
            path,
            f"prompt.templates: an adapter is trained with one template, and there are {len(prompt['templates'])}",
        )
    if prompt.get("shots"):
        yield ("prompt", "shots"), "prompt.shots: an adapter learns from its examples; it is prompted without shots"


def _seed_problems(plain: Mapping[str, Any], blocks: Blocks) -> Iterator[Problem]:
    seeds, prompt = plain.get("seeds"), blocks["prompt"]
    drawn = _draws(prompt.get("shots"), prompt.get("calibration"), plain.get("adapter"))
    if isinstance(seeds, list) and len(seeds) > 1 and not drawn and not any(blocks["baselines"].values()):
        yield (
            ("seeds",),
            f"seeds: all {len(seeds)} would give the same figures, since nothing is drawn: no prompt.shots, adapter, "
            "baselines or texts of train_median; state one",
        )


def draws_for_prompts(experiment: Experiment) -> bool:
    """Whether a seed changes what a prompted model answers, and not its baselines alone."""
    return _draws(experiment.prompt.shots, experiment.prompt.calibration, experiment.adapter)


def _draws(shots: Any, calibration: Any, adapter: Any) -> bool:
    return bool(shots or calibration == "train_median" or adapter)


def _adapter_problems(adapter: Mapping[str, Any]) -> Iterator[Problem]:
    kind = adapter.get("kind")
    if kind not in OF_KIND:
        return
    for key in OF_KIND[kind]:
        if key not in adapter:
            yield ("adapter",), f"adapter.{key} is missing: {kind} has {' and '.join(OF_KIND[kind])}"
    for key in adapter.keys() & {key for keys in (*OF_KIND.values(), *MAY.values()) for key in keys}:
        if key not in (*OF_KIND[kind], *MAY[kind]):
            yield ("adapter", key), f"adapter.{key}: {kind} has none; it has {', '.join((*OF_KIND[kind], *MAY[kind]))}"


def _training_problems(training: Mapping[str, Any]) -> Iterator[Problem]:
    if "learning_rate" not in training or not {"num_train_epochs", "max_steps"} & training.keys():
        yield (
            ("adapter",),
            "adapter: is trained; state training.learning_rate, and training.num_train_epochs or max_steps",
        )
    for key in ("eval_strategy", "load_best_model_at_end"):
        if training.get(key, "no") not in ("no", False):
            path = ("training", key)
            yield path, f"training.{key}: all of an adapter's examples are trained on, and none is left to evaluate on"
    if training.get("train_sampling_strategy") == "group_by_length":
        path = ("training", "train_sampling_strategy")
        yield path, "training.train_sampling_strategy: few examples are not grouped; random or sequential"
    if training.get("label_smoothing_factor"):
        path = ("training", "label_smoothing_factor")
        yield path, "training.label_smoothing_factor: Trainer would smooth an answer's tokens without shifting them"


def draws(experiment: Experiment, parts, seed: int) -> dict[tuple[str, int], Any]:
    """The training examples of each draw that an experiment asks for, by the key that asks and how many.

    Args:
        experiment: With adapter and baselines.
        parts: Its data's parts, which draw.
        seed: The run's.

    Raises:
        UserError: If there are not so many, or not as many of each label.
    """
    wanted = [(f"baselines.{name}", count) for name, count in experiment.baselines.counts]
    if experiment.adapter:
        wanted.append(("adapter.examples", experiment.adapter.examples))
    return {(key, count): parts.draw(count, seed, key) for key, count in wanted}


def vectors(experiment: Experiment) -> int:
    """How many vectors a soft prompt puts before each prompt."""
    return experiment.adapter.tokens or 0 if experiment.adapter else 0
