"""Progress of a Trainer: a bar in a terminal, plain lines in a log file."""

import time
from functools import partial

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from nutshell.machine import progress
from nutshell.machine.errors import plural


def install(trainer: Trainer, predicting: str = "measuring") -> None:
    """Replaces Trainer's own callbacks, which print raw dictionaries, with these.

    Args:
        trainer: Before it trains or predicts.
        predicting: What its `predict` does, in a word.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(PlainProgress(predicting) if trainer.args.disable_tqdm else BarProgress())


def line(state, logs: dict | None) -> str:
    """One entry of the log history: step, epoch and figures."""
    shown = {k: v for k, v in (logs or {}).items() if isinstance(v, float) and "per_second" not in k}
    figures = "  ".join(f"{name} {value:.4g}" for name, value in shown.items() if name not in ("epoch", "total_flos"))
    return f"step {state.global_step}/{state.max_steps}  epoch {state.epoch or 0.0:.2f}  {figures}"


def beginning(args, state) -> str:
    """Which steps are to come."""
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    done, last = state.global_step, state.max_steps
    steps = f"steps {done + 1:,} to {last:,}" if done else plural(last, "step")
    return f"training: {steps}, each of {plural(batch, 'example')}"


class BarProgress(ProgressCallback):
    """Trainer's bars, with a line above them for each entry of the log history."""

    def on_train_begin(self, args, state, control, **kwargs):
        """A line with the number of steps, then the bar."""
        progress.say(beginning(args, state))
        progress.follow(None)
        super().on_train_begin(args, state, control, **kwargs)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """A line with the step and what was logged."""
        if self.training_bar is not None:
            self.training_bar.write(line(state, logs))

    def on_prediction_step(self, args, state, control, **kwargs):
        """The bar."""
        progress.follow(None)
        super().on_prediction_step(args, state, control, **kwargs)


class PlainProgress(TrainerCallback):
    """A line for each entry of the log history, and after each half minute of silence how far it is, how fast it goes
    and how long the rest takes.

    Args:
        predicting: What `predict` does, in a word.
    """

    def __init__(self, predicting: str = "measuring"):
        self.predicting, self.in_training = predicting, False
        self.first_step = self.batches = 0
        # Moments of the clock; a rate is of whole steps and batches.
        self.start = self.last_step_end = self.first_batch_end = self.last_batch_end = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        """A line with the number of steps."""
        self.start, self.first_step, self.in_training = time.monotonic(), state.global_step, True
        progress.say(beginning(args, state))
        progress.follow(partial(self._step, state))

    def on_step_end(self, args, state, control, **kwargs):
        """Notes the time."""
        self.last_step_end = time.monotonic()

    def on_train_end(self, args, state, control, **kwargs):
        """What comes next is no training."""
        self.in_training = False

    def on_log(self, args, state, control, logs=None, **kwargs):
        """A line with the step, what was logged, and in training how fast it goes."""
        progress.say(line(state, logs) + f"  {self._pace(state)}" * ("loss" in (logs or {})))

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        """Counts a batch."""
        self.batches += 1
        self.last_batch_end = time.monotonic()
        if self.batches == 1:
            self.first_batch_end = self.last_batch_end
            progress.follow(partial(self._batch, len(eval_dataloader)))

    def on_evaluate(self, args, state, control, **kwargs):
        """Back to the steps."""
        self.batches = 0
        progress.follow(partial(self._step, state))

    def on_predict(self, args, state, control, **kwargs):
        """The next one counts from its own beginning."""
        self.batches = 0

    def _step(self, state) -> str:
        return f"step {state.global_step}/{state.max_steps}  {self._pace(state)}"

    def _pace(self, state) -> str:
        """Of the steps of this launch, with the evaluations between them."""
        done, total = state.global_step - self.first_step, state.max_steps - self.first_step
        seconds = (self.last_step_end if done else time.monotonic()) - self.start
        return progress.pace(done, total, seconds, "step")

    def _batch(self, total: int) -> str:
        """Of the batches after the first: no callback says when that one begins."""
        done, end = self.batches - 1, self.last_batch_end if self.batches > 1 else time.monotonic()
        pace = progress.pace(done, total - 1, end - self.first_batch_end, "batch")
        return f"{'evaluating' if self.in_training else self.predicting}: batch {self.batches}/{total}  {pace}"
