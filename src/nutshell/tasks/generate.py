"""Continuing prompts through Trainer's predict path, so that accelerate's processes and precision apply."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, TrainingArguments

from nutshell.bits import metrics
from nutshell.data import documents, vocabularies
from nutshell.experiment.blocks import Generate
from nutshell.machine import progress
from nutshell.machine.files import write_lines
from nutshell.models import find as models
from nutshell.run import generation
from nutshell.run.record import Record
from nutshell.run.trainer import ExactTrainer

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class GenerateTrainer(ExactTrainer):
    """Trainer whose prediction is a continuation: what a batch holds is the places of its requests."""

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Tokens and nats, (batch, max_new_tokens), and (batch,) the requests' places."""
        places = inputs["places"].to(self.args.device)
        asked = [self.asked[place] for place in places.tolist()]
        with torch.no_grad(), torch.autocast(self.args.device.type, enabled=False):  # the weights are cast already
            unwrapped = self.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
            tokens, nats = generation.extend(unwrapped, self.processing_class, asked, self.keys, self.args.seed)
        return None, (tokens, nats), places


def generate(experiment: Generate, args: TrainingArguments, resume: Path | None, record: Record) -> dict[str, Any]:
    """Continues every prompt with one seed.

    Args:
        experiment: Whose `task` is generate.
        args: Batch size, seed and the run's folder; samples.jsonl lands there.
        resume: None: nothing is trained.
        record: Notes in the folder that the run has begun.

    Returns:
        What metrics.json says of this run, but for provenance.

    Raises:
        UserError: Whatever is wrong with the model, a prompt or the settings.
    """
    checkpoint = models.find(experiment.model, models.ARCHITECTURES)
    prompts = documents.read_prompts(experiment.prompts)
    # Nothing is trained, so that in bf16 the weights are too: autocast would cast them anew for every token.
    model = models.load_causal(checkpoint).to(PRECISIONS[args.mixed_precision])
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    keys = experiment.generation
    asked = generation.requests(
        prompts,
        vocabularies.of_checkpoint(checkpoint, models.read_config(checkpoint)).tokenizer,
        model.config.to_dict(),
        keys,
        experiment.samples_per_prompt,
        experiment.greedy,
    )
    trainer = GenerateTrainer(
        model,
        args,
        data_collator=lambda places: {"places": torch.tensor(places)},
        processing_class=tokenizer,
        callbacks=[record],
    )
    trainer.asked, trainer.keys = asked, keys
    progress.install(trainer)
    record.begin(args)
    # Alike side by side: greedy ones together, then by length, so that little is padded.
    order = sorted(range(len(asked)), key=lambda place: (asked[place].sample is not None, -len(asked[place].ids)))
    result = trainer.predict(order)

    (tokens, nats), places = result.predictions, result.label_ids.tolist()
    rows = {
        place: generation.row(asked[place], tokens[at], nats[at], tokenizer, keys) for at, place in enumerate(places)
    }
    if trainer.is_world_process_zero():
        write_lines(Path(args.output_dir) / "samples.jsonl", [rows[place] for place in range(len(asked))])
    texts = [[int(token) for token in line if token != generation.NOTHING] for line in tokens]
    made, seconds = sum(map(len, texts)), result.metrics["test_runtime"]
    values = {
        "mean_nats": float(nats.sum(dtype="float64")) / max(1, made),
        "distinct_1": metrics.distinct(texts, 1),
        "distinct_2": metrics.distinct(texts, 2),
        "repetition": metrics.repetition(texts),
    }
    better = {"mean_nats": None, "distinct_1": True, "distinct_2": True, "repetition": False}
    ended = sum(row["ended"] == "finished" for row in rows.values())
    return {
        "evaluated_on": {
            "part": "prompts",
            "examples": len(asked),
            "chose": False,
            "text": f"{len(asked)} continuations of {len(prompts)} prompts, {ended} of them finished",
        },
        "metrics": metrics.entries(values, {}, better),
        "data": {
            "source": "the experiment" if isinstance(experiment.prompts, list) else experiment.prompts,
            "examples": {"prompts": len(prompts)},
            "sha256": {"prompts": hashlib.sha256(json.dumps(prompts).encode()).hexdigest()},
        },
        "parameters": {"all": model.num_parameters(), "trained": 0},
        "training": None,
        "generation": {"tokens": made, "seconds": seconds, "tokens_per_second": made / seconds},
    }
