"""Which of an experiment's seeds is put to use, and how it was measured."""

import logging
import os
from pathlib import Path

from nutshell.machine import launch
from nutshell.machine.errors import UserError, plural
from nutshell.report.results import runs
from nutshell.report.results.result import Result
from nutshell.report.results.runs import Run

logger = logging.getLogger("nutshell")


def choose(folder: Path, seed: int | None = None, every: bool = False) -> list[Run]:
    """The complete runs to be used: the best seed by its validation figure, the first where there is none; the seed
    that is named; or all of them. Says which, and why.

    Args:
        folder: An experiment's, with seeds in it, or one seed's.
        seed: Of the run to take.
        every: Whether to take all.

    Raises:
        UserError: If the folder holds no complete run, not that seed, or several experiments.
    """
    found = runs.find([folder])
    if len(places := sorted({str(run.folder.parent) for run in found})) > 1:
        raise UserError(f"{folder}: holds {len(places)} experiments; name one, such as {os.path.relpath(places[0])}")
    complete = [run for run in found if run.state == "complete" and seed in (None, run.seed)]
    if not complete:
        asked = [run for run in found if seed in (None, run.seed)]
        ready = ", ".join(str(run.seed) for run in found if run.state == "complete") or "none"
        if not asked:
            raise UserError(f"{folder}: holds no seed {seed}; complete are: {ready}")
        run = asked[0]
        raise UserError(f"{run.folder}: {run.state}: {run.reason}; seeds that are complete: {ready}")
    if len({runs.question(run.resolved) for run in complete}) > 1:
        raise UserError(f"{folder}: its seeds are of experiments that differ; choose one with --seed")
    if every:
        logger.info("%s: the mean of %s", folder, plural(len(complete), "seed"))
        return complete
    run, reason = _best(complete)
    logger.info("%s: seed %d%s", folder, run.seed, reason)
    return [run]


def _best(complete: list[Run]) -> tuple[Run, str]:
    """The seed to take of several, and why."""
    first = complete[0]
    if len(complete) == 1:
        return first, ""
    name, figure = next(iter(first.result.metrics.items()))
    values = [(run.result.validation or {}).get(name) for run in complete]
    if None not in values and figure.higher_is_better is not None:
        sign, count = 1 if figure.higher_is_better else -1, len(values)
        place = max(range(count), key=lambda place: (sign * values[place], -place))
        return complete[place], f", whose {name} on the validation part is the best of {count}: {values[place]:.4f}"
    reason = "not all were evaluated on a validation part, which could choose"
    if first.result.evaluated_on.part == "validation":
        reason = "their figures are of the validation part itself, and no other part can choose"
    return first, f", the first of {len(values)}: {reason}"


def arguments(experiment, result: Result, folder: Path):
    """The TrainingArguments of a pass over new texts, as the run's final pass had them: batch size and precision.

    Args:
        experiment: The run's.
        result: What was measured.
        folder: An empty one, where nothing will be written.

    Raises:
        UserError: If there are several processes, or the precision needs a GPU that is not there.
    """
    import torch

    from nutshell.runs import session

    if launch.processes() > 1:
        raise UserError("new texts are answered by one process: leave out accelerate launch")
    args = session.arguments(experiment, result.experiment["seed"], folder)
    args.mixed_precision = result.provenance.mixed_precision  # whatever this launch says
    args.eval_strategy, args.load_best_model_at_end = "no", False
    if args.mixed_precision == "fp16" and not torch.accelerator.is_available():
        raise UserError("the run was measured in fp16, which needs a GPU")
    return args
