"""A language model that Trainer has trained continues a text with its key-value cache, and says so where it is saved."""

import json

import pytest
import torch

from nutshell.machine.files import read_lines
from nutshell.models.language import build
from nutshell.runs.trainer.language import LanguageModelTrainer
from tests.conftest import TEXT_YAML

CONFIGS = {
    "gpt2": "{model_type: gpt2, n_embd: 32, n_layer: 2, n_head: 2, n_positions: 64}",
    "scratch": "{model_type: scratch, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, "
    "max_position_embeddings: 64}",
    "lstm": "{model_type: lstm, embedding_size: 16, hidden_size: 32}",
}


def widths(model) -> list[int]:
    """Fills up with how many tokens each forward pass is fed."""
    fed: list[int] = []
    model.register_forward_pre_hook(lambda _, args, kwargs: fed.append(kwargs["input_ids"].shape[1]), with_kwargs=True)
    return fed


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_run_saves_generates_with_the_cache(name, write, nutshell, tmp_path, monkeypatch):
    text = TEXT_YAML.replace("{name: CAUSAL}", f"{{config: {CONFIGS[name]}, tokenizer: bytes}}")
    text = text.replace(
        "eval_strategy: epoch", "eval_strategy: steps, eval_steps: 1, save_strategy: steps, save_steps: 1"
    )
    text += "samples: [Once]\ngeneration: {max_new_tokens: 6}\n"
    fed, stock = [], LanguageModelTrainer.__init__

    def init(self, model, *args, **kwargs):
        stock(self, model, *args, **kwargs)
        fed.append(widths(model))

    monkeypatch.setattr(LanguageModelTrainer, "__init__", init)
    assert nutshell("run", write(text), "keep_checkpoints=true")[0] == 0
    assert fed[0].count(1) >= 2 * 5  # of `samples:`, at two steps: after the prompt one token at a time
    seed = tmp_path / "outputs" / "finetune" / "pairs" / "seed-13"
    for folder in (seed / "model", seed / "checkpoint-1", seed / "checkpoint-2"):
        for file in ("config.json", "generation_config.json"):
            assert json.loads((folder / file).read_text()).get("use_cache") is not False, folder / file
        assert json.loads((folder / "config.json").read_text())["use_cache"] is True
    model, texts = build.load(seed / "model").eval(), []
    prompt = torch.tensor([[79, 110, 99, 101]])
    for use_cache in (None, False):
        fed = widths(model)
        words = {} if use_cache is None else {"use_cache": use_cache}
        ends = {"pad_token_id": 0, "eos_token_id": None}
        texts.append(model.generate(prompt, max_new_tokens=8, do_sample=False, **ends, **words).tolist())
        assert fed == ([4] + 7 * [1] if use_cache is None else [*range(4, 12)])
    assert texts[0] == texts[1]
    assert read_lines(seed / "samples.jsonl")[-1]["tokens"] <= 6


def test_a_model_saved_by_stock_trainer_does_too(causal, tmp_path):
    import shutil

    folder = shutil.copytree(causal["gpt2"], tmp_path / "stock")
    config = json.loads((folder / "config.json").read_text()) | {"use_cache": False}
    (folder / "config.json").write_text(json.dumps(config))
    model = build.load(folder)
    assert model.config.use_cache and model.generation_config.use_cache is not False
