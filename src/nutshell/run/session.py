"""One training from its start or a checkpoint to its end, and how fast it went."""

from pathlib import Path
from typing import Any

from transformers import TrainerState, TrainingArguments

from nutshell.machine import checkpoints, interruption
from nutshell.machine.errors import UserError
from nutshell.run.trainer import ExactTrainer


class Training:
    """A training that begins, goes on, or turns out to have been killed after its last step.

    Args:
        resume: The checkpoint to go on from, or None.
        best: Whether the best checkpoint's weights are to be measured, and not the last.

    Attributes:
        finished: The checkpoint whose weights are to be measured, if training had already come to its end.
    """

    def __init__(self, resume: Path | None, best: bool):
        self.resume, self.seconds, self.finished = resume, 0.0, None
        done = checkpoints.state(resume) if resume else None
        self.before = done["global_step"] if done else 0
        self.still_to_do = checkpoints.still_to_do(resume) if resume else []
        if done and done["global_step"] >= done["max_steps"]:  # Trainer itself would take one step too many
            chosen = done["best_model_checkpoint"] if best and not self.still_to_do else None
            self.finished = resume.with_name(Path(chosen or resume).name)

    def run(self, trainer: ExactTrainer) -> None:
        """Trains to the end.

        Raises:
            UserError: If the optimizer cannot be made of these settings, or no best checkpoint was chosen.
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
            trainer.args.eval_on_start &= not self.resume
            self._train(trainer)
        if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is None:
            place = trainer.args.output_dir
            raise UserError(f"{place}: training ended without a best checkpoint; evaluate and save more often")

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

    def speed(self, trainer: ExactTrainer, examples: int, tokens: int) -> dict[str, Any]:
        """Steps, epochs and tokens of the whole run; the rates are of this launch's steps, evaluation excluded,
        saving included.

        Args:
            trainer: After `run`.
            examples, tokens: In one epoch, padding excluded.
        """
        done, epochs = trainer.state.global_step, trainer.state.epoch or 0.0
        share = (done - self.before) / done if done else 0.0
        best = trainer.state.best_model_checkpoint
        return {
            "steps": done,
            "global_batch_size": trainer.get_total_train_batch_size(trainer.args),
            "per_device_train_batch_size": trainer.args.per_device_train_batch_size,
            "gradient_accumulation_steps": trainer.args.gradient_accumulation_steps,
            "epochs": epochs,
            "tokens": round(epochs * tokens),
            "resumed_from_step": self.before,
            "seconds": self.seconds,
            "examples_per_second": epochs * examples * share / self.seconds if share and self.seconds > 0 else None,
            "tokens_per_second": epochs * tokens * share / self.seconds if share and self.seconds > 0 else None,
            "best_checkpoint": Path(best).name if best else None,
        }


def evaluation_speed(result, examples: int, tokens: int) -> dict[str, Any]:
    """How long the final pass took, and its rates.

    Args:
        result: What `Trainer.predict` gave.
        examples, tokens: In the part, padding excluded.
    """
    seconds = result.metrics["test_runtime"]
    return {
        "examples": examples,
        "tokens": tokens,
        "seconds": seconds,
        "examples_per_second": examples / seconds,
        "tokens_per_second": tokens / seconds,
    }


def evaluated_on(parts, args: TrainingArguments, unit: str, trained: bool = True) -> dict[str, Any]:
    """Which part of the data the figures are of, and whether it also chose the checkpoint.

    Args:
        parts: Of labelled examples or of documents.
        args: The run's arguments.
        unit: What the part is counted in.
        trained: Whether anything was.
    """
    chose = parts.reported == "validation" and args.load_best_model_at_end
    if chose:
        note = "which also chose the checkpoint: the figure is optimistic"
    elif parts.reported == "validation":
        note = "which stands in for a test part; it chose nothing"
    else:
        note = "touched once, after training" if trained else "measured without training"
    count = len(getattr(parts, parts.reported))
    text = f"{count:,} {unit} of the {parts.reported_as} part, {note}"
    return {"part": parts.reported_as, "examples": count, "chose": chose, "text": text}
