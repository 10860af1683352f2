"""What every language model here must hold, as a difference that must be (nearly) 0."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, TrainingArguments

from nutshell.data.encoding import vocabularies
from nutshell.data.text.windows import join, windows
from nutshell.models.language import build
from nutshell.runs.generation import texts as generation
from nutshell.runs.generation.prompts import Request
from nutshell.runs.trainer.language import LanguageModelTrainer, TextCollator
from tests.conftest import ROOT, one_step
from tests.models.language import tiny

BYTES = vocabularies.of_bytes()
END = BYTES.end_of_text
LENGTHS = (9, 3, 7, 2, 8, 5, 4, 6)


def rows(*lengths: int) -> list:
    """Rows of random tokens, everything in them to be predicted."""
    generator = torch.Generator().manual_seed(1)
    return [(torch.randint(0, END, (length,), generator=generator).numpy(), length) for length in lengths]


def still(folder: Path, dropout: float = 0.0):
    """The model with one probability wherever it drops something out, or without."""
    model_class = type(build.load(folder))
    config = model_class.config_class.from_pretrained(folder)
    for key, value in config.to_dict().items():
        if "drop" in key and key != "layerdrop" and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(config, key, dropout)
    return model_class.from_pretrained(folder, config=config)


def nats(model, ids: torch.Tensor) -> torch.Tensor:
    """What each token of a row except the first costs, by stock forward and plain cross-entropy."""
    with torch.no_grad():
        return cross_entropy(model(ids[None], use_cache=False).logits[0, :-1].float(), ids[1:], reduction="none")


def trainer_of(model, place: Path, **keys) -> LanguageModelTrainer:
    """Trainer as a run has it, with rows of several lengths to train on."""
    settings = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "use_cache": True}
    args = TrainingArguments(output_dir=str(place), **settings | keys)
    return LanguageModelTrainer(model, args, vocabulary=BYTES, metrics=(), eval_sizes={}, train_dataset=rows(*LENGTHS))


SPLITS = ((8, 1), (2, 4), (1, 8))


@cache
def steps(folder: Path, place: Path) -> list[tuple[float, float]]:
    """Loss and norm of the gradient of one step over 8 rows: 8 at once, 4 times 2, 8 times 1."""
    return [one_step(still(folder), rows(*LENGTHS), place, *sizes, TextCollator(END))[1] for sizes in SPLITS]


def loss(folder: Path, place: Path) -> float:
    """Trainer's loss is the mean cost of every token that has one before it, a row at a time; relative."""
    model = build.load(folder).eval()
    expected = torch.cat([nats(model, torch.from_numpy(ids)) for ids, _ in rows(*LENGTHS)]).mean().item()
    return max(abs(logged / expected - 1) for logged, _ in steps(folder, folder.parent))


def accumulation(folder: Path, place: Path) -> float:
    """The gradient does not depend on how a step's rows are divided; its norm, relative."""
    norms = [norm for _, norm in steps(folder, folder.parent)]
    return max(abs(norm / norms[0] - 1) for norm in norms)


def batch(folder: Path, place: Path) -> float:
    """What a token costs does not depend on the batch that it is measured in; nats."""
    texts = [ids.tolist() for ids, _ in rows(30, 4, 12, 25, 2, 61)]
    every = windows(join(texts, BYTES), BYTES, 32, 16, documents="separate")
    costs = [
        trainer_of(build.load(folder), place, per_device_eval_batch_size=size).measure(every)[1] for size in (1, 64)
    ]
    return float(numpy.abs(costs[0] - costs[1]).max())


def padding(folder: Path, place: Path) -> float:
    """A padded batch costs what its rows cost one by one, padded on the left or on the right; nats."""
    model, lengths, width = build.load(folder).eval(), (30, 4, 12, 25, 2), 33
    worst = 0.0
    for left in (False, True):
        ids, mask = torch.full((len(lengths), width), END), torch.zeros(len(lengths), width, dtype=torch.long)
        for row, (tokens, length) in enumerate(rows(*lengths)):
            place = slice(width - length, None) if left else slice(length)
            ids[row, place], mask[row, place] = torch.from_numpy(tokens), 1
        with torch.no_grad():
            costs = model.token_nats(ids, mask)
        for row, (tokens, length) in enumerate(rows(*lengths)):
            real = costs[row, width - length :] if left else costs[row, : length - 1]
            worst = max(worst, (real - nats(model, torch.from_numpy(tokens))).abs().max().item())
            assert costs[row].count_nonzero() == length - 1
    return worst


def cached(folder: Path, place: Path) -> float:
    """With its cache, token by token, a model gives the logits that it gives of the whole text; logits."""
    model, ids = build.load(folder).eval(), torch.from_numpy(rows(40)[0][0])[None]
    past, parts = None, []
    with torch.no_grad():
        for part in (ids[:, :5], *ids[:, 5:].split(1, 1)):
            out = model(part, past_key_values=past, use_cache=True)
            past = out.past_key_values
            parts.append(out.logits)
        return (torch.cat(parts, 1) - model(ids, use_cache=False).logits).abs().max().item()


def future(folder: Path, place: Path) -> float:
    """A later token changes no earlier logit, but its own; logits."""
    model, ids = build.load(folder).eval(), torch.from_numpy(rows(40)[0][0])[None]
    worst = 0.0
    with torch.no_grad():
        whole = model(ids).logits
        for at in (5, 20, 39):
            other = ids.clone()
            other[0, at] = (other[0, at] + 1) % END
            changed = model(other).logits
            worst = max(worst, (changed[:, :at] - whole[:, :at]).abs().max().item())
            assert not torch.equal(changed[:, at], whole[:, at])
    return worst


def texts(folder: Path, place: Path) -> float:
    """Prompts that are continued together are continued as one by one, with a cache and without, drawn or not; the
    share of tokens that differ."""
    model, wrong, count = build.load(folder).eval(), 0, 0
    for sample in (None, 0):
        keys = {"max_new_tokens": 20, "min_new_tokens": 20} | ({} if sample is None else {"do_sample": True})
        requests = [Request(str(row), ids.tolist(), sample) for row, (ids, _) in enumerate(rows(3, 11, 6, 1))]
        with torch.no_grad():
            together = generation.extend(model, None, requests, keys, seed=13)[0]
            for row, request in enumerate(requests):
                for use_cache in (True, False):
                    alone = generation.extend(model, None, [request], keys | {"use_cache": use_cache}, seed=13)[0]
                    wrong, count = wrong + int((alone[0] != together[row]).sum()), count + 20
    return wrong / count


def stock(folder: Path, place: Path) -> float:
    """Trained, saved and loaded by stock transformers, a model gives the same logits, whether its head is the embedding
    or not; logits."""
    ids, worst = torch.from_numpy(rows(40)[0][0])[None], 0.0
    for tied in (True, False):
        kind = build.load(folder).config.model_type
        model = build.load(tiny.make(kind, place / f"tied-{tied}", tie_word_embeddings=tied))
        trainer_of(model, place, max_steps=1, learning_rate=0.01).train()
        model.eval().save_pretrained(place / f"saved-{tied}")
        with torch.no_grad():
            loaded = AutoModelForCausalLM.from_pretrained(place / f"saved-{tied}").eval()
            worst = max(worst, (loaded(ids).logits - model(ids).logits).abs().max().item())
        assert model.config.architectures == [type(loaded).__name__]
        for each in (model, loaded):
            head, embedding = each.get_output_embeddings().weight, each.get_input_embeddings().weight
            assert (head is embedding) == tied
    return worst


def resume(folder: Path, place: Path) -> float:
    """Training that resumes from a checkpoint, with dropout, ends with the weights of one that was not cut short."""
    keys = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 3}
    weights = []
    for checkpoint in (None, place / "whole/checkpoint-4"):
        trainer = trainer_of(
            still(folder, 0.1), place / ("again" if checkpoint else "whole"), learning_rate=0.01, **keys
        )
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        weights.append(trainer.model.state_dict())
    before = build.load(folder).state_dict()
    assert any(not torch.equal(weight, before[name]) for name, weight in weights[0].items())
    return max((weight - weights[1][name]).abs().max().item() for name, weight in weights[0].items())


LAWS: dict[Callable[[Path, Path], float], float] = {  # and the largest difference that rounding explains
    loss: 1e-6,
    accumulation: 1e-6,
    batch: 1e-5,
    padding: 1e-5,
    cached: 1e-4,
    future: 0.0,
    texts: 0.0,
    stock: 0.0,
    resume: 0.0,
}


PROCESSES = """
import json, os, sys
from pathlib import Path
from tests.models.language import laws
world, place = int(os.environ["WORLD_SIZE"]), Path(sys.argv[1])
steps = {}
for name in sys.argv[2:]:
    trainer = laws.trainer_of(
        laws.still(place / name), place / f"run-{name}", max_steps=3, learning_rate=1e-3, max_grad_norm=1e9,
        logging_steps=1, per_device_train_batch_size=6 // world, ddp_find_unused_parameters=False,
    )
    trainer.train()
    steps[name] = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
if os.environ["RANK"] == "0":
    (place / f"{world}.json").write_text(json.dumps(steps))
"""


def processes(names: Sequence[str], place: Path) -> dict[str, float]:
    """By architecture, how much the losses and gradients of three steps in two processes are off those in one;
    relative. The second step has the rest of 8 rows, which two processes fill up."""
    script, logs = place / "steps.py", []
    script.write_text(PROCESSES, encoding="utf-8")
    for name in names:
        tiny.make(name, place / name)
    for count in (1, 2):
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"}
        done = subprocess.run([*words, script, place, *names], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        logs.append(json.loads((place / f"{count}.json").read_text(encoding="utf-8")))
    one, two = ({name: numpy.array(steps) for name, steps in log.items()} for log in logs)
    return {name: float(numpy.abs(two[name] / one[name] - 1).max()) for name in names}


def table(names) -> str:
    """The largest difference of each architecture in each law."""
    columns = [*(law.__name__ for law in LAWS), "processes"]
    lines = ["| architecture | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    with tempfile.TemporaryDirectory() as place:
        launched = processes(names, Path(place))
    for name in names:
        with tempfile.TemporaryDirectory() as place:
            folder = tiny.make(name, Path(place) / "model")
            differences = [law(folder, Path(place) / law.__name__) for law in LAWS]
        lines.append(f"| {name} | " + " | ".join(f"{value:.1e}" for value in (*differences, launched[name])) + " |")
    return "\n".join(lines)
