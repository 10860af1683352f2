"""Trainer as every task here uses it: the same steps on any number of processes, whole checkpoints."""

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback

from nutshell.machine import checkpoints, interruption
from nutshell.machine.errors import UserError
from nutshell.runs.trainer import progress
from nutshell.runs.trainer.order import PaddedOrder, WithDummies

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # of weights that are not trained


class ExactTrainer(Trainer):
    """Trainer that mends what stock Trainer leaves inexact.

    - On several processes stock fills up an epoch's last batches with examples from its beginning, which are then
      trained on twice; here dummies fill them up, which cost nothing.
    - Evaluation draws no random number, so that how often it is done does not change what is trained.
    - A checkpoint has its name only when the disk has all of it.
    - Training stops at the first step whose loss or gradient is not finite.
    - A SIGTERM ends training at the next step or batch, the same one on all processes, with a checkpoint. (Stock
      `enable_jit_checkpoint` waits 3 s, looks at no evaluation, each process stops by itself, and train() then returns
      as at its end: the exit code is 0, and a scheduler takes the run for finished.)
    """

    predicting = "measuring"  # what `predict` does, in a word
    dummy: Callable[[Any], Any]  # where a task trains: turns an example into one of its shape that costs nothing

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_callback(_Watch(self))
        progress.install(self, self.predicting)
        self.evaluation_seconds = 0.0  # with all that callbacks do then
        self.still_to_do: list[str] = []  # "evaluate", "save": at the step that is resumed from
        self._last_step = self.saved_step = self.padded_order = None

    def order(self) -> torch.utils.data.Sampler[int]:
        """The order of the training examples: a function of seed and epoch alone."""
        # Stock accelerate (use_seedable_sampler) replaces only a RandomSampler with it, not one inside PaddedOrder.
        if self.args.train_sampling_strategy == "sequential":
            return SequentialSampler(self.train_dataset)
        return SeedableRandomSampler(self.train_dataset, data_seed=self.args.seed)

    def get_train_dataloader(self):
        """Stock, but with dummies on several processes."""
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        return self._get_dataloader(
            dataset=WithDummies(self.train_dataset, self.dummy),
            description="Training",
            batch_size=self._train_batch_size,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

    def _get_train_sampler(self, train_dataset=None):
        if self.args.world_size == 1:
            return self.order()
        self.padded_order = PaddedOrder(self.order(), self._train_batch_size * self.args.world_size)
        return self.padded_order

    def _get_eval_sampler(self, eval_dataset):
        # Stock grouping by length regroups evaluation too, so that predictions are not in the data's order.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def evaluate(self, *args, **kwargs):
        """Stock, but the random state is restored afterwards."""
        start = time.monotonic()
        with torch.random.fork_rng(devices=[]):  # a data loader draws on the CPU
            figures = super().evaluate(*args, **kwargs)
        self.evaluation_seconds += time.monotonic() - start
        return figures

    def log(self, logs, *args, **kwargs):
        """Stock, without the mean loss at the end: it is one process's, and only since the resume."""
        logs.pop("train_loss", None)
        super().log(logs, *args, **kwargs)

    def evaluation_loop(self, *args, **kwargs):
        """Stock, within one autocast: the weights are cast once, and not again for each batch."""
        interruption.shield(True)
        with self.accelerator.autocast():
            return super().evaluation_loop(*args, **kwargs)

    def predict(self, *args, **kwargs):
        """Stock; if it is cut short, what was trained is kept."""
        try:
            return super().predict(*args, **kwargs)
        except interruption.Terminated:
            # With load_best_model_at_end the weights are not the last step's any more.
            trained = self.optimizer is not None and not self.args.load_best_model_at_end
            if trained and self.saved_step != self.state.global_step:
                self._save_checkpoint(self.model_wrapped, None)
            raise

    def stop_if_requested(self) -> None:
        """Ends the run if a SIGTERM has come to any process.

        Raises:
            Terminated: On all processes at the same place.
        """
        stop = interruption.requested()
        if self.args.world_size > 1:
            flag = torch.tensor(float(stop), device=self.args.device)
            torch.distributed.all_reduce(flag)
            stop = bool(flag)
        if stop:
            raise interruption.Terminated

    def catch_up(self) -> None:
        """Makes up for the evaluation, and the saving after it, that was cut short at the step that is resumed from."""
        if self.still_to_do:
            self._load_rng_state(str(self._checkpoint()))  # before it is saved again; Trainer does so later
            self.control.should_evaluate, self.control.should_save = True, "save" in self.still_to_do
            self.still_to_do = []
            self._maybe_log_save_evaluate(self._tr_loss, None, self.model_wrapped, None, 0, None, time.time())

    def _run_epoch(self, *args, **kwargs):
        """Stock, except after an evaluation that was made up for and ended training: stock takes a step first."""
        if self.control.should_training_stop:
            interruption.shield(False)
        else:
            super()._run_epoch(*args, **kwargs)

    def _determine_best_metric(self, metrics, trial):
        """Stock; an undefined metric (0 / 0) is never the best."""
        name = f"eval_{(self.args.metric_for_best_model or '').removeprefix('eval_')}"
        return metrics.get(name, 0) is not None and super()._determine_best_metric(metrics, trial)

    def stop_if_diverged(self, loss: torch.Tensor, grad_norm: torch.Tensor) -> None:
        """Ends the run if a step's loss or gradient is not finite.

        It waits for the device once a step, where stock waits at every batch (logging_nan_inf_filter, which the
        runner turns off), and the processes agree on one number: 0.01 ms on a CPU, 0.15 ms with two processes.

        Args:
            loss: This process's, summed since it was last logged.
            grad_norm: Of the mean gradient of all processes; Trainer measures it also where it does not clip.

        Raises:
            UserError: On all processes at the same step.
        """
        if hasattr(grad_norm, "full_tensor"):  # with FSDP each process may hold its share
            grad_norm = grad_norm.full_tensor()
        # In fp16 the scaler tries ever larger factors: it skips steps whose gradient overflows, which is no fault.
        sums = loss if self.accelerator.scaler else loss + grad_norm
        diverged = (~sums.isfinite()).float()
        if self.args.world_size > 1:  # only one may have the batch whose loss is not finite
            torch.distributed.all_reduce(diverged)
        if diverged:
            values = {"the loss": float(loss), "the norm of the gradient": float(grad_norm)}
            reasons = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
            raise UserError(
                f"training diverged at step {self.state.global_step} of {self.state.max_steps}: "
                f"{' and '.join(reasons) or 'the loss of another process is not finite'}. Try a lower "
                "training.learning_rate, or more training.warmup_steps. The log up to here is kept: "
                f"{Path(self.args.output_dir) / 'trainer_state.json'}"
            )

    def _maybe_log_save_evaluate(self, tr_loss, grad_norm, model, trial, epoch, *args, **kwargs):
        """Stock, after each step and after each epoch; then the run ends, if that was requested."""
        if grad_norm is not None and self._last_step != self.state.global_step:  # after a step
            self.stop_if_diverged(tr_loss, grad_norm)
        try:
            super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, epoch, *args, **kwargs)
        except interruption.Terminated:  # while it evaluated
            self.still_to_do = ["evaluate", *(["save"] if self.control.should_save else [])]
            self._save_checkpoint(model, trial)
            raise
        step, last = self.state.global_step, self.state.epoch >= epoch + 1 or self.control.should_training_stop
        if last and self._last_step != step:
            self._last_step = step  # the epoch's own evaluation and saving are still to come
            return
        try:
            self.stop_if_requested()
        except interruption.Terminated:
            if self.saved_step != step:
                self._save_checkpoint(model, trial)
            raise

    def _checkpoint(self) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"

    def _get_output_dir(self, trial) -> str:
        return str(Path(self.args.output_dir) / ".checkpoint-partial")

    def _save_checkpoint(self, model, trial) -> None:
        """Stock, but into a partial folder, which then gets the checkpoint's name."""
        checkpoint, home = self._checkpoint(), Path(self._get_output_dir(trial))
        partial, wait = home / checkpoint.name, self.args.distributed_state.wait_for_everyone
        if self.args.should_save:
            shutil.rmtree(home, ignore_errors=True)
        wait()
        try:
            super()._save_checkpoint(model, trial)
            wait()  # until every process has written its own random state
            best = checkpoint.with_name(f"checkpoint-{self.state.best_global_step}")
            if best == checkpoint or best.exists():  # which stock looks for next to the new one
                self.state.best_model_checkpoint = str(best)
            if self.args.should_save:
                self._check_shared(partial)
                self.state.save_to_json(str(partial / "trainer_state.json"))
                checkpoints.publish(partial, checkpoint, self.still_to_do)
                home.rmdir()
        except Exception:
            if self.args.should_save:
                shutil.rmtree(home, ignore_errors=True)
            raise
        if self.args.should_save:
            checkpoints.rotate(checkpoint.parent, self.args.save_total_limit, self.state.best_model_checkpoint)
        self.saved_step = self.state.global_step
        wait()

    def _check_shared(self, partial: Path) -> None:
        missing = [rank for rank in range(self.args.world_size) if not (partial / f"rng_state_{rank}.pth").exists()]
        if self.args.world_size > 1 and missing:
            raise UserError(
                f"{partial.parents[1]}: process {missing[0]} writes to another folder of this name; all machines need "
                "one file system for --output"
            )


class UntrainedTrainer(ExactTrainer):
    """Trainer that answers and trains nothing: a batch holds the places of what is answered.

    Args:
        model: In fp32.
        args: The run's; its precision is that of the weights too, since nothing is trained and autocast would cast them
            again for every batch or token.
    """

    def __init__(self, model, args, **kwargs):
        super().__init__(
            model.to(PRECISIONS[args.mixed_precision]),
            args,
            data_collator=lambda places: {"places": torch.tensor(places)},
            **kwargs,
        )

    def answer(self, model, places: list[int]) -> Any:
        """What is at these places, as tensors (batch, ...).

        Args:
            model: Unwrapped, in evaluation mode.
        """
        raise NotImplementedError

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The answers, and (batch,) their places."""
        places = inputs["places"].to(self.args.device)
        with torch.no_grad(), torch.autocast(self.args.device.type, enabled=False):  # the weights are cast already
            unwrapped = self.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
            return None, self.answer(unwrapped, places.tolist()), places


class _Watch(TrainerCallback):
    """Passes on to the trainer the moments at which Trainer calls only callbacks."""

    def __init__(self, trainer: ExactTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        """Model, optimizer and state have been restored; the first step is still to come."""
        self.trainer.catch_up()

    def on_epoch_begin(self, args, state, control, **kwargs):
        """On several processes stock does not tell the sampler its epoch when it resumes within one."""
        interruption.shield(True)  # from here to the first step a loader's workers are started
        if self.trainer.padded_order:
            self.trainer.padded_order.set_epoch(int(state.epoch))

    def on_step_begin(self, args, state, control, **kwargs):
        """The step's batches have been read."""
        interruption.shield(False)

    def on_prediction_step(self, args, state, control, **kwargs):
        """A batch has been evaluated."""
        interruption.shield(False)
        self.trainer.stop_if_requested()
