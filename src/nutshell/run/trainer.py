"""Trainer as every task here uses it: the same steps on any number of processes, whole checkpoints."""

import concurrent.futures
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback

from nutshell.machine import checkpoints, interruption
from nutshell.machine.errors import UserError
from nutshell.report import card as publishing
from nutshell.run.order import Evened, WithGhosts


class ExactTrainer(Trainer):
    """Trainer that mends what stock Trainer leaves inexact.

    - On several processes stock fills an epoch's last batches up with examples from its beginning, which are then
      trained on twice; here they are filled up with examples that cost nothing.
    - Evaluation draws no random number, so that how often it is done does not change what is trained.
    - A checkpoint has its name only when the disk has all of it.
    - A SIGTERM ends training at the next step or batch, on all processes at the same one, with a checkpoint.
    """

    ghost: Callable[[Any], Any]  # of a task that trains: makes of an example one of its shape that costs nothing

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_callback(_Watch(self))
        self.evaluation_seconds = 0.0  # with all that callbacks do then
        self.still_to_do: list[str] = []  # "evaluate", "save": at the step that is resumed from
        self._last_step = self.saved_step = self.evened = None
        self.pushes: list[Future] = []

    def order(self) -> torch.utils.data.Sampler[int]:
        """The order of the training examples: a function of seed and epoch alone."""
        if self.args.train_sampling_strategy == "sequential":
            return SequentialSampler(self.train_dataset)
        return SeedableRandomSampler(self.train_dataset, data_seed=self.args.seed)

    def get_train_dataloader(self):
        """Stock, but for ghosts on several processes."""
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        return self._get_dataloader(
            dataset=WithGhosts(self.train_dataset, self.ghost),
            description="Training",
            batch_size=self._train_batch_size,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

    def _get_train_sampler(self, train_dataset=None):
        if self.args.world_size == 1:
            return self.order()
        self.evened = Evened(self.order(), self._train_batch_size * self.args.world_size)
        return self.evened

    def evaluate(self, *args, **kwargs):
        """Stock, but the random state afterwards is that from before."""
        began = time.monotonic()
        with torch.random.fork_rng(devices=[]):  # a data loader draws on the CPU
            found = super().evaluate(*args, **kwargs)
        self.evaluation_seconds += time.monotonic() - began
        return found

    def log(self, logs, *args, **kwargs):
        """Stock, without the mean loss at the end: it is one process's, and only since the resume."""
        logs.pop("train_loss", None)
        super().log(logs, *args, **kwargs)

    def evaluation_loop(self, *args, **kwargs):
        """Stock, within one autocast: the weights are cast once, and not anew for each batch."""
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

    def end_if_asked(self) -> None:
        """Ends the run if any process was asked to.

        Raises:
            Terminated: On all processes at the same place.
        """
        asked = interruption.asked()
        if self.args.world_size > 1:
            flag = torch.tensor(float(asked), device=self.args.device)
            torch.distributed.all_reduce(flag)
            asked = bool(flag)
        if asked:
            raise interruption.Terminated

    def catch_up(self) -> None:
        """Makes the evaluation, and the saving after it, that was cut short at the step now resumed from."""
        if self.still_to_do:
            self._load_rng_state(str(self._checkpoint()))  # Trainer does so later, and this may be saved anew
            self.control.should_evaluate, self.control.should_save = True, "save" in self.still_to_do
            self.still_to_do = []
            self._maybe_log_save_evaluate(self._tr_loss, None, self.model_wrapped, None, 0, None, time.time())

    def _maybe_log_save_evaluate(self, tr_loss, grad_norm, model, trial, epoch, *args, **kwargs):
        """Stock, after each step and after each epoch; then the end, if it was asked for."""
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
            self.end_if_asked()
        except interruption.Terminated:
            if self.saved_step != step:
                self._save_checkpoint(model, trial)
            raise

    def _checkpoint(self) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"

    def _get_output_dir(self, trial) -> str:
        return str(Path(self.args.output_dir) / ".checkpoint-partial")

    def _save_checkpoint(self, model, trial) -> None:
        """Stock, but into a folder beside."""
        checkpoint, beside = self._checkpoint(), Path(self._get_output_dir(trial))
        partial, wait = beside / checkpoint.name, self.args.distributed_state.wait_for_everyone
        if self.args.should_save:
            shutil.rmtree(beside, ignore_errors=True)
        wait()
        try:
            super()._save_checkpoint(model, trial)
            wait()  # until every process has written its own random state
            best = checkpoint.with_name(f"checkpoint-{self.state.best_global_step}")
            if best == checkpoint or best.exists():  # which stock looks for beside the new one
                self.state.best_model_checkpoint = str(best)
            if self.args.should_save:
                self._check_shared(partial)
                self.state.save_to_json(str(partial / "trainer_state.json"))
                checkpoints.publish(partial, checkpoint, self.still_to_do)
                beside.rmdir()
        except Exception:
            if self.args.should_save:
                shutil.rmtree(beside, ignore_errors=True)
            raise
        if self.args.should_save and self._pushed():
            checkpoints.rotate(checkpoint.parent, self.args.save_total_limit, self.state.best_model_checkpoint)
            if self.args.push_to_hub:
                self.pushes = publishing.push_checkpoint(checkpoint, self.hub_model_id, self.args)
        self.saved_step = self.state.global_step
        wait()

    def init_hf_repo(self, *args, **kwargs) -> None:
        """Stock, with a message if the Hub refuses."""
        if self.is_world_process_zero():
            self.hub_model_id = publishing.open_repository(self.args.hub_model_id, self.args.hub_private_repo)

    def push_to_hub(self, *args, **kwargs) -> None:
        """Nothing: the runner pushes when the figures and the card are there."""

    def _push_from_checkpoint(self, checkpoint_folder) -> None:
        """Nothing: it is written beside, and pushed when it has its name."""

    def _pushed(self) -> bool:
        """Whether no push is under way; while one is, as in stock, no other begins, and no checkpoint is removed."""
        if not all(job.done() for job in self.pushes):
            return False
        publishing.warn_of_failures(self.pushes)
        self.pushes = []
        return True

    def _finish_current_push(self) -> None:
        """Stock calls this when training ends: waits for a push that is under way."""
        concurrent.futures.wait(self.pushes)
        self._pushed()

    def _check_shared(self, partial: Path) -> None:
        missing = [rank for rank in range(self.args.world_size) if not (partial / f"rng_state_{rank}.pth").exists()]
        if self.args.world_size > 1 and missing:
            raise UserError(
                f"{partial.parents[1]}: process {missing[0]} writes to another folder of this name; all machines need "
                "one file system for --output"
            )


class _Watch(TrainerCallback):
    """Tells the trainer what Trainer tells only callbacks."""

    def __init__(self, trainer: ExactTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        """Model, optimizer and state have been restored, and no step is made yet."""
        self.trainer.catch_up()

    def on_epoch_begin(self, args, state, control, **kwargs):
        """On several processes stock does not tell the sampler its epoch when it resumes within one."""
        interruption.shield(True)  # from here to the first step a loader's workers are started
        if self.trainer.evened:
            self.trainer.evened.set_epoch(int(state.epoch))

    def on_step_begin(self, args, state, control, **kwargs):
        """The step's batches are there."""
        interruption.shield(False)

    def on_prediction_step(self, args, state, control, **kwargs):
        """A batch has been evaluated."""
        interruption.shield(False)
        self.trainer.end_if_asked()
