"""Progress in a log file."""

import logging
from types import SimpleNamespace

from nutshell.machine import progress


def test_lines(monkeypatch):
    lines, clock = [], iter([0.0, 1.0, 2.0, 40.0, 41.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress.logger, "info", lambda *words: lines.append(words[0] % words[1:]))
    plain, state = progress.PlainProgress(), SimpleNamespace(global_step=5, max_steps=10, epoch=0.5)
    plain.on_log(None, state, None, {"loss": 0.5, "eval_samples_per_second": 3.0, "epoch": 0.5, "step": 5})
    assert lines == ["step 5/10  epoch 0.50  loss 0.5"]
    for _ in range(2):
        plain.on_prediction_step(None, state, None, eval_dataloader=range(7))
    assert lines[1:] == ["evaluating: batch 2/7"]  # after half a minute of silence
    assert isinstance(progress.logger, logging.Logger)
