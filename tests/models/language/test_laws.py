"""The language models: what the wrapper mends, and that each architecture holds the laws."""

import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from nutshell.models.language import build
from nutshell.models.language.architectures import CAUSAL, model_class
from nutshell.runs.trainer.language import TextCollator
from tests.conftest import ROOT
from tests.models.language import laws
from tests.models.language.laws import LAWS, rows

NAMED = ("gpt2", "llama", "qwen2", "gpt_neox", "opt", "mistral", "gemma", "scratch", "lstm")
NAMES = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in NAMED else pytest.mark.slow) for name in CAUSAL]
)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@NAMES
def test_law(name, law, checkpoints, tmp_path):
    assert law(checkpoints[name], tmp_path) <= LAWS[law]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    assert max(laws.processes(CAUSAL, tmp_path).values()) <= 1e-5


@NAMES
def test_trainer_counts_predicted_tokens(name, checkpoints, tmp_path):
    trainer, _ = laws.one_step(build.load(checkpoints[name]), rows(9, 3), tmp_path, 2, 1, TextCollator(256))
    assert trainer.model_accepts_loss_kwargs and trainer._loss_shifts_labels


def test_upstream_still_needs_the_mend(checkpoints, tmp_path):
    """When this fails, transformers counts predicted tokens by itself and the wrapper's line can go."""
    lengths = (8,) * 8
    folder = checkpoints["gpt2"]
    model = laws.still(folder).eval()
    expected = torch.cat([laws.nats(model, torch.from_numpy(ids)) for ids, _ in rows(*lengths)]).mean().item()
    plain = GPT2LMHeadModel.from_pretrained(folder, config=model.config)
    _, (loss, _) = laws.one_step(plain, rows(*lengths), tmp_path, 8, 1, TextCollator(256))
    assert loss == pytest.approx(7 / 8 * expected, rel=1e-4)


@NAMES
def test_token_nats_reach_one_token_beyond_the_context(name, checkpoints):
    model = build.load(checkpoints[name]).eval()
    ids = torch.from_numpy(rows(65)[0][0])[None]
    with torch.no_grad():
        assert model.token_nats(ids).shape == (1, 64)


def padded(prompts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    width = max(map(len, prompts))
    ids = torch.stack([torch.cat([torch.full((width - len(p),), 256), p]) for p in prompts])
    mask = torch.stack([torch.arange(width) >= width - len(p) for p in prompts]).long()
    return {"input_ids": ids, "attention_mask": mask}


@NAMES
def test_beams_over_a_padded_batch_are_those_one_by_one(name, checkpoints):
    model = build.load(checkpoints[name]).eval()
    prompts = [torch.from_numpy(ids) for ids, _ in rows(3, 11, 6, 1)]
    settings = {"max_new_tokens": 12, "do_sample": False, "num_beams": 2, "pad_token_id": 256, "min_new_tokens": 12}
    together = model.generate(**padded(prompts), **settings)[:, 11:]
    for row, prompt in enumerate(prompts):
        for use_cache in (True, False):
            alone = model.generate(
                prompt[None], attention_mask=torch.ones(1, len(prompt)), use_cache=use_cache, **settings
            )
            assert together[row].tolist() == alone[0, len(prompt) :].tolist()


FRESH = """
import sys, torch, nutshell
from transformers import AutoModelForCausalLM, AutoTokenizer
for folder in sys.argv[1:]:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("Ein Fluß, 猫.", return_tensors="pt").input_ids
    with torch.no_grad():
        torch.save(model(ids).logits, folder + "/logits.pt")
    print(type(model).__name__, ids.shape[1])
"""


def test_a_fresh_process_loads_each_through_the_auto_classes(checkpoints, tmp_path):
    folders = []
    for name, folder in checkpoints.items():
        model = build.load(folder).eval()
        model.save_pretrained(tmp_path / name)
        for file in folder.glob("token*"):
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
        folders.append(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", FRESH, *map(str, folders)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    printed = [line.split() for line in done.stdout.splitlines()]
    assert printed == [[model_class(name).__name__, "15"] for name in checkpoints]
    for name, folder in zip(checkpoints, folders, strict=True):
        ids = AutoTokenizer.from_pretrained(folder)("Ein Fluß, 猫.", return_tensors="pt").input_ids
        with torch.no_grad():
            assert torch.equal(torch.load(folder / "logits.pt"), build.load(checkpoints[name]).eval()(ids).logits)


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "import nutshell",
        "import nutshell.models.language.causal",
        "import nutshell.models.language.wrapper",
        "import nutshell.models.language.own.transformer",
        "import nutshell.models.language.own.lstm",
        "from transformers import AutoModelForCausalLM; import nutshell",
        "import nutshell; from transformers import pipeline",
    ],
)
def test_the_auto_classes_know_ours_whatever_was_imported_first(first):
    then = """
from transformers import AutoConfig, AutoModelForCausalLM
for name in ("scratch", "lstm"):
    AutoModelForCausalLM.from_config(AutoConfig.for_model(name, vocab_size=9, hidden_size=12, num_hidden_layers=1))
"""
    done = subprocess.run([sys.executable, "-c", first + then], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_weights_are_read_as_openai_s_repository_has_them(tmp_path):
    """Without the prefix `transformer.`, without the tied head, with old masks next to them."""
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    stock = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=16, vocab_size=20)).eval()
    stock.transformer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["h.0.attn.bias"] = torch.ones(1, 1, 16, 16).tril()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert "wte.weight" in weights and "lm_head.weight" not in weights
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert torch.equal(build.load(tmp_path).eval()(ids).logits, stock(ids).logits)
