"""An adapter that learns from few answered prompts, under the exact Trainer."""

from dataclasses import replace
from pathlib import Path

import numpy
import torch
from transformers import AutoTokenizer

from nutshell.data.parts import Part, Parts
from nutshell.data.text.templates import Prompts
from nutshell.experiment.few_labels import draws, vectors
from nutshell.models import adapters
from nutshell.models.language import build, soft_prompt
from nutshell.report.results.result import Parameters
from nutshell.runs.trainer.exact import ExactTrainer
from nutshell.runs.trainer.language import TextCollator
from nutshell.runs.trainer.order import PADDING

Row = tuple[numpy.ndarray, int]  # a prompt's tokens with its answer's, and how many are the answer's


class AdapterTrainer(ExactTrainer):
    """Trainer of what prompts are answered with: the loss of a step is the nats of the right answers' tokens, given the
    prompts, over how many tokens those are, of all its examples.

    Args:
        padding: The token to pad with.
        before: How many vectors the model puts before each row.
    """

    def __init__(self, *args, padding: int, before: int, **kwargs):
        super().__init__(*args, data_collator=TextCollator(padding), **kwargs)
        self.before = before

    def dummy(self, row: Row) -> Row:
        """Nothing of it is scored."""
        return row[0], 0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Stock loss, but logits only at the places where some row's answer is predicted."""
        targets = inputs["labels"][:, 1:]
        places = (targets != PADDING).any(0).nonzero()[:, 0]
        if not len(places):  # a batch of dummies
            places = torch.zeros_like(targets[0, :1])
        targets = targets[:, places].contiguous()
        inputs = {
            "input_ids": inputs["input_ids"][:, :-1],  # what pads a row comes after all that is predicted
            "labels": targets,
            "shift_labels": targets,
            "logits_to_keep": places + self.before,
            "use_cache": False,
        }
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


def rows(prompts: Prompts, part: Part) -> list[Row]:
    """Each example's prompt by the only template, with its label's answer."""
    answers = [numpy.array(ids, numpy.int32) for ids in prompts.answers[0]]
    return [
        (numpy.concatenate([prompt, answers[label]]), len(answers[label]))
        for (prompt,), label in zip(prompts.rows(part.texts), part.labels, strict=True)
    ]


def prepare(experiment, args, session, checkpoint: Path, prompts: Prompts, parts: Parts, record):
    """The model that is prompted: as it is, or with an adapter, which is trained and saved first, low-rank adapters as
    `adapter/` and, merged, with the model as `model/`, a soft prompt as `adapter/`.

    Args:
        experiment: With model, adapter and training.
        args: The run's.
        session: A runs.session.Session for its training.
        checkpoint: The model's folder.
        prompts: With one template, if there is an adapter.
        parts: From which its examples are drawn.
        record: The run's.

    Returns:
        The model, in fp32; the prompts that it is asked by, which begin with a soft prompt's vectors; and `parameters`
        and `training` of the result.

    Raises:
        UserError: If the model cannot be adapted so, or training diverges.
    """
    adapter, folder = experiment.adapter, Path(args.output_dir)
    if adapter is None:
        record.begin(args)
        model = build.load(checkpoint)
        return model, prompts, {"parameters": Parameters(all=model.num_parameters(), trained=0), "training": None}
    if adapter.kind == "lora":
        model = build.adapted(checkpoint, adapter.lora, session.finished, args.seed)
    else:
        model = soft_prompt.add(build.load(checkpoint), adapter, checkpoint, session.finished)
    examples = rows(prompts, draws(experiment, parts, args.seed)["adapter.examples", adapter.examples])
    trainer = AdapterTrainer(
        model,
        args,
        padding=prompts.start,
        before=vectors(experiment),
        train_dataset=examples,
        callbacks=[record],
    )
    session.run(trainer)
    trainer.save_state()  # trainer_state.json, with the log history
    training = {
        "parameters": Parameters(**adapters.parameters(model)),
        "training": session.speed(trainer, len(examples), sum(len(ids) for ids, _ in examples)),
    }
    model.eval()
    if adapter.kind == "lora":
        if args.should_save:
            tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
            adapters.save(model, tokenizer, folder, experiment.model)
        return _thawed(model.merge_and_unload()), prompts, training
    if args.should_save:
        soft_prompt.save(model, folder, experiment.model)
    plain = _thawed(model.get_base_model())
    before = soft_prompt.attach(plain, model.get_prompt_embedding_to_save("default"))
    return plain, replace(prompts, before=before), training


def _thawed(model):
    """The model with weights that could be trained again: torch multiplies a frozen head with the last tokens of a batch
    (logits_to_keep) by a copy of the head for each row, which makes scoring three times as slow."""
    return model.requires_grad_(True)
