"""The language models: what the wrapper mends, what each token costs, what every one of the three must hold."""

import os
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from nutshell.models.language import build
from nutshell.models.language.architectures import model_class
from nutshell.runs.trainer.language import TextCollator
from tests.conftest import ROOT, one_step

ALL = pytest.mark.parametrize("name", ["gpt2", "scratch", "lstm"])


def rows(*lengths: int) -> list:
    """Rows of random tokens, everything in them to be predicted."""
    generator = torch.Generator().manual_seed(1)
    return [(torch.randint(0, 257, (length,), generator=generator).numpy(), length) for length in lengths]


def logged(of, folder, output, batch, accumulation, lengths=(9, 3, 7, 2, 8, 5, 4, 6)):
    """Trainer, and loss and gradient norm of its first step over rows of several lengths, dropout off."""
    still = {"gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop")}.get(of.config_class.model_type, ("dropout",))
    model = of.from_pretrained(folder, **dict.fromkeys(still, 0.0))
    return one_step(model, rows(*lengths), output, batch, accumulation, TextCollator(256))


def brute_force(model, lengths=(9, 3, 7, 2, 8, 5, 4, 6)) -> float:
    """The mean cost of every token that has one before it, a row at a time, without padding."""
    nats, count = 0.0, 0
    for ids, _ in rows(*lengths):
        ids = torch.from_numpy(ids)
        with torch.no_grad():
            logits = model(ids[None]).logits[0]
        nats += cross_entropy(logits[:-1], ids[1:], reduction="sum").item()
        count += len(ids) - 1
    return nats / count


@ALL
def test_the_training_loss_is_the_mean_over_predicted_tokens(name, causal, tmp_path):
    expected = brute_force(build.load(causal[name]).eval())
    steps = []
    for sizes in ((8, 1), (2, 4), (1, 8)):
        trainer, logs = logged(model_class(name), causal[name], tmp_path, *sizes)
        assert trainer.model_accepts_loss_kwargs and trainer._loss_shifts_labels
        steps.append(logs)
    for loss, norm in steps:
        assert loss == pytest.approx(expected, rel=1e-4)
        assert norm == pytest.approx(steps[0][1], rel=1e-4)


def test_upstream_still_needs_the_mend(causal, tmp_path):
    """When this fails, transformers counts predicted tokens by itself and the wrapper's line can go."""
    lengths = (8,) * 8
    expected = brute_force(build.load(causal["gpt2"]).eval(), lengths)
    _, (loss, _) = logged(GPT2LMHeadModel, causal["gpt2"], tmp_path, 8, 1, lengths)
    assert loss == pytest.approx(7 / 8 * expected, rel=1e-4)


@ALL
def test_token_nats_against_one_row_at_a_time(name, causal):
    model = build.load(causal[name]).eval()
    lengths = [7, 2, 5]
    for left in (False, True):
        ids, mask = torch.full((3, 9), 256), torch.zeros(3, 9, dtype=torch.long)
        for row, (tokens, length) in enumerate(rows(*lengths)):
            place = slice(9 - length, None) if left else slice(length)
            ids[row, place], mask[row, place] = torch.from_numpy(tokens), 1
        with torch.no_grad():
            nats = model.token_nats(ids, mask)
        assert nats.shape == (3, 8) and nats.dtype == torch.float32
        for row, (tokens, length) in enumerate(rows(*lengths)):
            tokens = torch.from_numpy(tokens)
            with torch.no_grad():
                expected = cross_entropy(model(tokens[None]).logits[0, :-1], tokens[1:], reduction="none")
            real = nats[row, 9 - length :] if left else nats[row, : length - 1]
            assert torch.allclose(real, expected, atol=1e-5)
            assert nats[row].count_nonzero() == length - 1


@ALL
def test_token_nats_reach_one_token_beyond_the_context(name, causal):
    model = build.load(causal[name]).eval()
    ids = torch.from_numpy(rows(65)[0][0])[None]
    with torch.no_grad():
        assert model.token_nats(ids).shape == (1, 64)


@ALL
def test_a_later_token_never_changes_an_earlier_logit(name, causal):
    model = build.load(causal[name]).eval()
    ids = torch.from_numpy(rows(20)[0][0])[None]
    with torch.no_grad():
        whole = model(ids).logits
        for place in (5, 12, 19):
            other = ids.clone()
            other[0, place] = (other[0, place] + 1) % 257
            changed = model(other).logits
            assert torch.equal(changed[:, :place], whole[:, :place])
            assert not torch.equal(changed[:, place], whole[:, place])


def padded(prompts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    width = max(map(len, prompts))
    ids = torch.stack([torch.cat([torch.full((width - len(p),), 256), p]) for p in prompts])
    mask = torch.stack([torch.arange(width) >= width - len(p) for p in prompts]).long()
    return {"input_ids": ids, "attention_mask": mask}


@ALL
@pytest.mark.parametrize("beams", [1, 2])
def test_continuing_a_padded_batch_is_continuing_one_by_one(name, beams, causal):
    model = build.load(causal[name]).eval()
    prompts = [torch.from_numpy(ids) for ids, _ in rows(3, 11, 6, 1)]
    settings = {"max_new_tokens": 12, "do_sample": False, "num_beams": beams, "pad_token_id": 256, "min_new_tokens": 12}
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


def test_a_fresh_process_loads_each_through_the_auto_classes(causal, tmp_path):
    folders = []
    for name, folder in causal.items():
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
    assert printed == [["GPT2LMHeadModel", "15"], ["ScratchForCausalLM", "15"], ["LstmForCausalLM", "15"]]
    for name, folder in zip(causal, folders, strict=True):
        ids = AutoTokenizer.from_pretrained(folder)("Ein Fluß, 猫.", return_tensors="pt").input_ids
        with torch.no_grad():
            assert torch.equal(torch.load(folder / "logits.pt"), build.load(causal[name]).eval()(ids).logits)


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
