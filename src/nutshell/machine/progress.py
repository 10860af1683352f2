"""Progress: a bar in a terminal, plain lines in a log file."""

import logging
import time

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

logger = logging.getLogger("nutshell")

QUIET_SECONDS = 30


def install(trainer: Trainer) -> None:
    """Puts these callbacks in the place of Trainer's own, which print raw dictionaries."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(PlainProgress() if trainer.args.disable_tqdm else BarProgress())


def line(state, logs: dict | None) -> str:
    """One entry of the log history: step, epoch and figures."""
    shown = {k: v for k, v in (logs or {}).items() if isinstance(v, float) and "per_second" not in k}
    figures = "  ".join(f"{name} {value:.4g}" for name, value in shown.items() if name not in ("epoch", "total_flos"))
    return f"step {state.global_step}/{state.max_steps}  epoch {state.epoch or 0.0:.2f}  {figures}"


class BarProgress(ProgressCallback):
    """Trainer's bars, with a line above them for each entry of the log history."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        """A line with the step and what was logged."""
        if self.training_bar is not None:
            self.training_bar.write(line(state, logs))


class PlainProgress(TrainerCallback):
    """A line for each entry of the log history, and in long evaluations one every half minute."""

    def __init__(self):
        self.evaluated, self.spoke = 0, time.monotonic()

    def on_log(self, args, state, control, logs=None, **kwargs):
        """A line with the step and what was logged."""
        self.evaluated, self.spoke = 0, time.monotonic()
        logger.info("%s", line(state, logs))

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        """A line with the share of batches that are evaluated."""
        self.evaluated += 1
        if time.monotonic() - self.spoke > QUIET_SECONDS:
            self.spoke = time.monotonic()
            logger.info("evaluating: batch %d/%d", self.evaluated, len(eval_dataloader))
