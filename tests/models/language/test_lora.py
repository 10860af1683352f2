"""Low-rank adapters on language models: what is trained, the laws, what is saved, and that a run resumes to the last
bit."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nutshell.machine.errors import UserError
from nutshell.models.adapters import merge, parameters, save
from nutshell.models.language import build
from nutshell.models.language.architectures import CAUSAL
from nutshell.runs.trainer.language import TextCollator
from tests.models.language import laws
from tests.models.language.test_laws import NAMED

ADAPTED = [
    pytest.param(name, marks=[] if name in ("gpt2", "llama", "gpt_neox", "scratch") else pytest.mark.slow)
    for name in CAUSAL
    if name != "lstm"
]
NAMES = pytest.mark.parametrize("name", ADAPTED)
YAML = """\
task: language_model
seeds: [13]
model: {name: PLACE, lora: {rank: 4, alpha: 8}}
data: {name: text, path: STORIES, block_tokens: 16}
training: {num_train_epochs: 3, learning_rate: 0.01, per_device_train_batch_size: 8, eval_strategy: epoch, save_strategy: epoch}
"""


def block(**keys) -> SimpleNamespace:
    """A `model.lora:` block with its defaults."""
    return SimpleNamespace(**{"rank": 4, "alpha": 8, "dropout": 0.0, "targets": None, **keys})


@pytest.fixture
def load(checkpoints, tmp_path):
    """A model with adapters, without dropout."""

    def _load(name, trained=None, **keys):
        folder = tmp_path / f"still-{name}"
        if not folder.exists():
            laws.still(checkpoints[name]).save_pretrained(folder)
        return build.adapted(folder, block(**keys), trained, seed=1)

    return _load


@NAMES
def test_accumulation_changes_neither_loss_nor_gradient(name, load, tmp_path):
    rows = laws.rows(*laws.LENGTHS)
    steps = [laws.one_step(load(name), rows, tmp_path, *sizes, TextCollator(256))[1] for sizes in laws.SPLITS]
    costs = torch.cat([laws.nats(load(name).eval(), torch.from_numpy(ids)) for ids, _ in rows])
    for loss, norm in steps:
        assert loss == pytest.approx(costs.mean().item(), rel=1e-6)
        assert norm == pytest.approx(steps[0][1], rel=1e-6) and norm > 0


@NAMES
def test_the_merged_model_costs_the_same(name, load, checkpoints, tmp_path):
    """And so does stock transformers with the adapter, on the checkpoint that it was trained on."""
    from peft import PeftModel

    model = load(name)
    before = {key: weight.clone() for key, weight in model.named_parameters()}
    laws.trainer_of(model, tmp_path / "run", max_steps=6, learning_rate=0.01).train()
    changed = {key for key, weight in model.named_parameters() if not torch.equal(weight, before[key])}
    assert changed == {key for key in before if "lora_" in key}
    counts = parameters(model)
    assert counts["trained"] == sum(before[key].numel() for key in changed)
    ids = torch.from_numpy(laws.rows(40)[0][0])[None]
    model.eval()
    with torch.no_grad():
        apart = model.token_nats(ids)
        merge(model)
        measured = model.token_nats(ids)
        tokenizer = AutoTokenizer.from_pretrained(checkpoints[name])
        base = str(tmp_path / f"still-{name}")
        save(model, tokenizer, tmp_path / "run", SimpleNamespace(name=base, revision=None))
        stock = AutoModelForCausalLM.from_pretrained(tmp_path / "run/model").eval()
        adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "run/adapter").eval()
        for other, expected in ((stock, measured), (adapted, apart)):
            assert torch.allclose(laws.nats(other, ids[0]), expected[0], atol=5e-6)
        assert torch.allclose(measured, apart, atol=5e-5)
        assert (measured - build.load(tmp_path / f"still-{name}").eval().token_nats(ids)).abs().max() > 1e-3
    assert stock.num_parameters() == AutoModelForCausalLM.from_config(stock.config).num_parameters()


def test_what_cannot_be_adapted(load):
    with pytest.raises(UserError, match=r"targets: vlaue is no linear layer of this model, which has .*q_proj"):
        load("llama", targets=["q_proj", "vlaue"])
    with pytest.raises(UserError, match=r"targets: lm_head is no linear layer"):
        load("llama", targets=["lm_head"])
    with pytest.raises(UserError, match=r"by default, and a lstm has none; state model.lora.targets"):
        load("lstm")


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("{name: PLACE, lora: {rank: 4, alpha: 8}}", ["training.num_train_epochs=0"], "model.lora: nothing is trained"),
        (
            "{config: {model_type: llama}, tokenizer: bytes, lora: {rank: 4, alpha: 8}}",
            [],
            "model.lora adapts a checkpoint",
        ),
        ("{name: PLACE, lora: {rank: 4}}", [], "model.lora.alpha is missing"),
        ("{name: PLACE, lora: {rank: 0, alpha: 8}}", [], "model.lora.rank"),
    ],
)
def test_refusals(model, words, message, checkpoints, write, nutshell):
    text = YAML.replace("{name: PLACE, lora: {rank: 4, alpha: 8}}", model).replace("PLACE", str(checkpoints["llama"]))
    code, _, err = nutshell("show", write(text), *words)
    assert code == 2 and message in err


@pytest.mark.parametrize("name", ["llama", pytest.param("gpt2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("best", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_that_was_cut_short_resumes_to_the_last_bit(name, best, write, nutshell, checkpoints, tmp_path):
    """Between its steps, and after the last; its model is the merged one, and measured so."""
    assert name in NAMED
    seed = tmp_path / "outputs/finetune/pairs/seed-13"
    text = YAML.replace("PLACE", str(checkpoints[name]))
    if best:
        text = text.replace("eval_strategy", "load_best_model_at_end: true, eval_strategy")
    file = write(text)
    code, _, errors = nutshell("run", file, "keep_checkpoints=true")
    assert code == 0, errors
    weights = load_file(seed / "model/model.safetensors")
    result = json.loads((seed / "metrics.json").read_text())
    adapter = load_file(seed / "adapter/adapter_model.safetensors")
    assert result["parameters"]["trained"] == sum(weight.numel() for weight in adapter.values())
    steps = sorted(int(checkpoint.name.removeprefix("checkpoint-")) for checkpoint in seed.glob("checkpoint-*"))
    for last in (steps[-1], steps[0]):
        (seed / "metrics.json").unlink()
        for folder in ("model", "adapter"):
            shutil.rmtree(seed / folder)
        for step in steps:
            if step > last:
                shutil.rmtree(seed / f"checkpoint-{step}", ignore_errors=True)
        code, _, errors = nutshell("run", file, "keep_checkpoints=true")
        assert code == 0 and f"resumes from checkpoint-{last}" in errors, errors
        again = load_file(seed / "model/model.safetensors")
        assert all(torch.equal(weight, again[key]) for key, weight in weights.items())
        assert json.loads((seed / "metrics.json").read_text())["metrics"] == result["metrics"]
    plain = YAML.replace("PLACE, lora: {rank: 4, alpha: 8}", str(seed)).replace("0.01", "1e-12")
    assert nutshell("run", write(plain, "second/pairs.yaml"))[0] == 0
    second = json.loads((tmp_path / "outputs/second/pairs/seed-13/metrics.json").read_text())["metrics"]
    assert second["bits_per_byte"]["value"] == pytest.approx(result["metrics"]["bits_per_byte"]["value"], rel=1e-6)
