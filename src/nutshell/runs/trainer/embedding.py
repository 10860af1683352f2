"""Sentences to vectors: the mean of a pre-trained encoder's last layer, in the exact Trainer's batches."""

from collections.abc import Sequence

import numpy
import torch
from torch.nn.functional import normalize
from transformers import AutoModel

from nutshell.data.encoding import tokenizers, tokens
from nutshell.data.parts import Part
from nutshell.models.classifiers import encoders
from nutshell.models.embedded import minilm
from nutshell.models.find import read_config
from nutshell.runs.trainer.exact import ExactTrainer
from nutshell.runs.trainer.order import in_data_order, longest_first


class EmbeddingTrainer(ExactTrainer):
    """Trainer whose prediction is a vector for each row."""

    predicting = "embedding"

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Vectors (batch, hidden) of length 1, fp32: the mean over the tokens that are no padding."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            hidden = model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"][..., None]
        return None, normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1), None


def embed(texts: Sequence[str], max_tokens: int, truncate: str, args) -> numpy.ndarray:
    """Each text as the embedded MiniLM's vector, as its authors made it for comparing sentences: (texts, 384) fp32.

    Args:
        texts: At least one.
        max_tokens: Of a text, at most; and no more than the model has positions for.
        truncate: As tokens.cut takes it.
        args: The run's TrainingArguments: batch size and precision.

    Source: Reimers & Gurevych 2019, "Sentence-BERT", section 3.
    """
    checkpoint = minilm.folder(weights=True)
    most = min(max_tokens, encoders.positions(read_config(checkpoint)))
    encoded = tokens.encode(Part([(text,) for text in texts]), tokens.load_tokenizer(checkpoint)[0], most, truncate)
    rows = [{"input_ids": ids, "token_type_ids": types} for ids, types, _ in encoded]
    order = longest_first([len(row["input_ids"]) for row in rows])
    trainer = EmbeddingTrainer(
        AutoModel.from_pretrained(checkpoint, dtype=torch.float32, use_safetensors=True),
        args,
        data_collator=tokenizers.Collator(tokenizers.for_transformers(checkpoint, most, truncate)),
    )
    return in_data_order(trainer.predict([rows[row] for row in order]).predictions, order)
