"""MiniLM's vectors: the mean over a text's own tokens, whatever else is in its batch."""

import torch
from transformers import AutoModel, AutoTokenizer, TrainingArguments

from nutshell.runs.trainer.learned import embed
from tests.conftest import MINILM

TEXTS = ["A fine film.", "Dull.", "It rained all day, and nobody in the whole town knew why it did. " * 4]


def vectors(folder, batch: int, **more):
    keys = {"max_tokens": 32, "truncate": "head", **more}
    args = TrainingArguments(str(folder), per_device_eval_batch_size=batch, report_to="none", use_cpu=True)
    return torch.from_numpy(embed(TEXTS, keys["max_tokens"], keys["truncate"], args))


def test_by_hand(tmp_path):
    """One by one, without padding, by transformers' own tokenizer."""
    model, tokenizer = AutoModel.from_pretrained(MINILM, dtype=torch.float32), AutoTokenizer.from_pretrained(MINILM)
    ours = vectors(tmp_path, 3)
    for text, vector in zip(TEXTS, ours, strict=True):
        with torch.no_grad():
            hidden = model(**tokenizer(text, truncation=True, max_length=32, return_tensors="pt")).last_hidden_state
        mean = hidden[0].mean(0)
        assert torch.allclose(vector, mean / mean.norm(), atol=1e-5)
    assert torch.allclose(vectors(tmp_path, 1), ours, atol=1e-5)
    tail = vectors(tmp_path, 3, truncate="tail")
    assert torch.allclose(tail[:2], ours[:2], atol=1e-6) and not torch.allclose(tail[2], ours[2], atol=1e-2)


def test_no_more_tokens_than_it_has_positions_for(tmp_path):
    assert torch.allclose(vectors(tmp_path, 2, max_tokens=4096), vectors(tmp_path, 2, max_tokens=512))
