"""Progress as plain lines, for log files; a terminal gets Trainer's bar instead."""

import logging
import time

from transformers import TrainerCallback

logger = logging.getLogger("nutshell")

QUIET_SECONDS = 30


class PlainProgress(TrainerCallback):
    """One line for each entry of the log history, and in long evaluations one every half minute."""

    def __init__(self):
        self.evaluated, self.spoke = 0, time.monotonic()

    def on_log(self, args, state, control, logs=None, **kwargs):
        """A line with the step and what was logged."""
        self.evaluated, self.spoke = 0, time.monotonic()
        shown = {k: v for k, v in (logs or {}).items() if isinstance(v, float) and "per_second" not in k}
        figures = "  ".join(f"{name} {value:.4g}" for name, value in shown.items() if name != "epoch")
        logger.info("step %d/%d  epoch %.2f  %s", state.global_step, state.max_steps, state.epoch or 0.0, figures)

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        """A line with the share of batches that are evaluated."""
        self.evaluated += 1
        if time.monotonic() - self.spoke > QUIET_SECONDS:
            self.spoke = time.monotonic()
            logger.info("evaluating: batch %d/%d", self.evaluated, len(eval_dataloader))
