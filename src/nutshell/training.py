"""One training from its start or a checkpoint to its end, and how fast it went."""

from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerState, TrainingArguments

from nutshell import checkpoints
from nutshell.experiment import UserError


class Training:
    """A training that begins, goes on, or turns out to have been killed after its last step.

    Args:
        resume: The checkpoint to go on from, or None.

    Attributes:
        finished: The checkpoint whose weights are to be measured, if training had already come to its end.
    """

    def __init__(self, resume: Path | None):
        self.resume, self.seconds, self.finished = resume, 0.0, None
        done = checkpoints.state(resume) if resume else None
        self.before = done["global_step"] if done else 0
        if done and done["global_step"] >= done["max_steps"]:  # Trainer itself would take one step too many
            self.finished = resume.with_name(Path(done["best_model_checkpoint"] or resume).name)

    def run(self, trainer: Trainer) -> None:
        """Trains to the end.

        Raises:
            UserError: If the optimizer cannot be made of these settings, or no best checkpoint was chosen.
        """
        if self.finished:
            trainer.state = TrainerState.load_from_json(str(self.resume / "trainer_state.json"))
        else:
            self._train(trainer)
        if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is None:
            place = trainer.args.output_dir
            raise UserError(f"{place}: training ended without a best checkpoint; evaluate and save more often")

    def _train(self, trainer: Trainer) -> None:
        try:
            trained = trainer.train(resume_from_checkpoint=str(self.resume) if self.resume else None)
        except (ImportError, KeyError, TypeError, ValueError) as error:
            if trainer.optimizer is not None and trainer.lr_scheduler is not None:
                raise
            raise UserError(f"training: optimizer or schedule cannot be made of these settings: {error}") from None
        history = [entry for entry in trainer.state.log_history if entry["step"] > self.before]
        self.seconds = trained.metrics["train_runtime"] - sum(entry.get("eval_runtime", 0.0) for entry in history)

    def speed(self, trainer: Trainer, examples: int, tokens: int) -> dict[str, Any]:
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
            "epochs": epochs,
            "tokens": round(epochs * tokens),
            "resumed_from_step": self.before,
            "seconds": self.seconds,
            "examples_per_second": epochs * examples * share / self.seconds if share else None,
            "tokens_per_second": epochs * tokens * share / self.seconds if share else None,
            "best_checkpoint": Path(best).name if best else None,
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
