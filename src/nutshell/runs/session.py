"""One training from its start or a checkpoint to its end: its arguments, how it ends, and how fast it went."""

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerState, TrainingArguments

from nutshell.bits.figures.metrics import Metric
from nutshell.bits.figures.units import Units
from nutshell.experiment.blocks import EarlyStopping, Experiment
from nutshell.machine import checkpoints, interruption
from nutshell.machine.errors import UserError, plural
from nutshell.report.results.result import Data, EvaluatedOn, Pass, Training
from nutshell.runs.trainer.exact import ExactTrainer

logger = logging.getLogger("nutshell")


def arguments(experiment: Experiment, seed: int, folder: Path) -> TrainingArguments:
    """The TrainingArguments of one seed: the experiment's `training:` block as it is, and what the launch settles.

    Raises:
        UserError: If transformers refuses a value.
    """
    # Trainer would push while it trains, without the figures and the card: it gets no key of the Hub.
    stated = {key: value for key, value in experiment.arguments.items() if "hub" not in key}
    try:
        args = TrainingArguments(
            output_dir=str(folder),
            seed=seed,
            report_to="none",
            use_cpu=not torch.accelerator.is_available(),
            disable_tqdm=not sys.stderr.isatty(),
            logging_nan_inf_filter=False,  # it hides that training diverges, and waits for the device at every batch
            restore_callback_states_from_checkpoint=True,  # early stopping goes on counting
            use_cache=True,  # or Trainer writes into the saved config that no cache is used to generate with it
            ddp_find_unused_parameters=False,  # every trained parameter is used; searching costs a pass per step
            **stated,
        )
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"training: {error}") from None
    if args.n_gpu > 1:
        logger.warning("one of %d GPUs is used; all: accelerate launch --num_processes %d", args.n_gpu, args.n_gpu)
        args._n_gpu = 1  # or Trainer wraps the model in DataParallel, which multiplies the batch
    return args


class Session:
    """A training that starts, resumes, or is already finished.

    Args:
        resume: The checkpoint to resume from, or None.
        args: The run's.
        early_stopping: The experiment's, if it has one.

    Attributes:
        finished: The checkpoint whose weights are to be measured, if training is already finished.
    """

    def __init__(self, resume: Path | None, args: TrainingArguments, early_stopping: EarlyStopping | None = None):
        self.resume, self.seconds, self.finished = resume, 0.0, None
        self.early_stopping = early_stopping
        state = checkpoints.state(resume) if resume else None
        self.steps_before = state["global_step"] if state else 0
        self.still_to_do = checkpoints.still_to_do(resume) if resume else []
        if state and (state["global_step"] >= state["max_steps"] or _stopped_early(state)):
            # Trainer itself would take one step too many, and after an early stop all the others.
            best = state["best_model_checkpoint"] if args.load_best_model_at_end and not self.still_to_do else None
            self.finished = resume.with_name(Path(best or resume).name)

    def run(self, trainer: ExactTrainer) -> None:
        """Trains to the end.

        Raises:
            UserError: If these settings make no optimizer, or no best checkpoint was chosen.
        """
        interruption.training(True)
        if self.finished:
            trainer.state = TrainerState.load_from_json(str(self.resume / "trainer_state.json"))
            trainer.saved_step = trainer.state.global_step
            if trainer.is_fsdp_enabled:  # accelerate divides a model only together with its optimizer
                trainer.create_optimizer()
                trainer.model, trainer.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
                trainer.model_wrapped = trainer.model
            if self.still_to_do:
                self._evaluate_at_last(trainer)
        else:
            trainer.still_to_do = self.still_to_do
            if limits := self.early_stopping:
                trainer.add_callback(EarlyStoppingCallback(limits.patience, limits.threshold))
            trainer.args.eval_on_start &= not self.resume
            self._train(trainer)
        if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is None:
            place = trainer.args.output_dir
            reason = "evaluate and save more often"
            if any("eval_loss" in entry for entry in trainer.state.log_history):
                reason += f", or choose another metric_for_best_model if {trainer.args.metric_for_best_model} was 0 / 0"
            raise UserError(f"{place}: training ended without a best checkpoint; {reason}")

    def _evaluate_at_last(self, trainer: ExactTrainer) -> None:
        """The evaluation after the last step, which was cut short, and the choice that it may change."""
        best = trainer.state.best_model_checkpoint
        if best:
            trainer.state.best_model_checkpoint = str(self.resume.with_name(Path(best).name))
        if trainer._determine_best_metric(trainer.evaluate(), None):
            trainer.state.best_model_checkpoint = str(self.resume)
        if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint:
            trainer._load_best_model()

    def _train(self, trainer: ExactTrainer) -> None:
        try:
            trained = trainer.train(resume_from_checkpoint=str(self.resume) if self.resume else None)
        except (ImportError, KeyError, TypeError, ValueError) as error:
            if trainer.optimizer is not None and trainer.lr_scheduler is not None:
                raise
            raise UserError(f"training: optimizer or schedule cannot be made of these settings: {error}") from None
        self.seconds = trained.metrics["train_runtime"] - trainer.evaluation_seconds

    def speed(self, trainer: ExactTrainer, examples: int, tokens: int) -> Training:
        """What was trained and how fast.

        Args:
            trainer: After `run`.
            examples, tokens: In one epoch, padding excluded.
        """
        steps, epochs = trainer.state.global_step, trainer.state.epoch or 0.0
        share = (steps - self.steps_before) / steps if steps else 0.0
        rate = share * epochs / self.seconds if self.seconds > 0 else 0.0
        best = trainer.state.best_model_checkpoint
        return Training(
            steps=steps,
            global_batch_size=trainer.get_total_train_batch_size(trainer.args),
            per_device_train_batch_size=trainer.args.per_device_train_batch_size,
            gradient_accumulation_steps=trainer.args.gradient_accumulation_steps,
            epochs=epochs,
            tokens=round(epochs * tokens),
            resumed_from_step=self.steps_before,
            seconds=self.seconds,
            examples_per_second=rate * examples or None,
            tokens_per_second=rate * tokens or None,
            best_checkpoint=Path(best).name if best else None,
        )


def _stopped_early(state: Mapping[str, Any]) -> bool:
    """Whether early stopping had ended training when a checkpoint was saved."""
    saved = state["stateful_callbacks"].get(EarlyStoppingCallback.__name__)
    if saved is None:
        return False
    return saved["attributes"]["early_stopping_patience_counter"] >= saved["args"]["early_stopping_patience"]


def validation(trainer: ExactTrainer, metrics: Sequence[Metric], parts) -> dict[str, float] | None:
    """The figures on the validation part of the weights that were measured; None if they were not evaluated there, or
    if that is the part that is reported: nothing can be chosen by it then without a look at the figure."""
    if parts.reported_name == "validation":
        return None
    state = trainer.state
    chosen = trainer.args.load_best_model_at_end and state.best_global_step
    step = chosen or state.global_step
    for entry in reversed(state.log_history):
        if entry.get("step") == step and all(f"eval_{metric.name}" in entry for metric in metrics):
            values = {metric.name: entry[f"eval_{metric.name}"] for metric in metrics}
            return None if None in values.values() else values
    return None


def pass_of(result, examples: int, tokens: int) -> Pass:
    """How fast the final pass was.

    Args:
        result: What `Trainer.predict` returned.
        examples, tokens: In the part, padding excluded.
    """
    seconds = result.metrics["test_runtime"]
    rates = {"examples_per_second": examples / seconds, "tokens_per_second": tokens / seconds}
    return Pass(examples=examples, tokens=tokens, seconds=seconds, **rates)


def together(every: Sequence[Training] | Sequence[Pass]) -> Training | Pass:
    """Several trainings, or several passes, one after the other, as one. The epochs are the last one's."""
    seconds = math.fsum(one.seconds for one in every)
    counts = {"steps", "examples", "tokens", "resumed_from_step"} & type(every[0]).model_fields.keys()
    total = {key: sum(getattr(one, key) for one in every) for key in counts}
    for rate in ("examples_per_second", "tokens_per_second"):
        amount = math.fsum((getattr(one, rate) or 0.0) * one.seconds for one in every)
        total[rate] = amount / seconds if seconds else None
    return every[-1].model_copy(update=total | {"seconds": seconds})


def evaluated_on(
    parts, args: TrainingArguments, units: Units, counted: str, trained: bool = True, rules: str | None = None
) -> EvaluatedOn:
    """The part of the data that the figures are of, and whether it also chose the checkpoint.

    Args:
        parts: Of the data.
        args: The run's.
        units: What the figures follow from.
        counted: What the part's examples are called.
        trained: Whether anything was.
        rules: By which the figures are taken; None: the usual ones.
    """
    chose = parts.reported_name == "validation" and args.load_best_model_at_end
    if chose:
        note = "which also chose the checkpoint: the figure is optimistic"
    elif parts.reported_name == "validation":
        note = "which serves as test part; it chose nothing"
    else:
        note = "used once, after training" if trained else "measured without training"
    return EvaluatedOn(
        part=parts.reported_as,
        count=len(units),
        units=units.kind,
        sha256=parts.reported.digest(),
        chose=chose,
        text=f"{plural(len(parts.reported), counted)} of the {parts.reported_as} part, "
        + "; ".join(filter(None, [note, rules])),
        rules=rules,
    )


def data_of(parts, tokens: Mapping[str, int] | None = None) -> Data:
    """What was read.

    Args:
        parts: Of the data.
        tokens: In each part, if they are known.
    """
    return Data(
        source=parts.source,
        repository=parts.origin and parts.origin.repository,
        config=parts.origin and parts.origin.folder,
        revision=parts.origin and parts.origin.revision,
        examples={name: len(part) for name, part in parts.by_name().items()},
        bytes={name: part.size_bytes for name, part in parts.by_name().items()},
        tokens=dict(tokens or {}),
        sha256={name: part.digest() for name, part in parts.by_name().items()},
        notes=parts.notes,
    )
