"""What is refused of a checkpoint or a new model before anything is loaded, by `show` and `run` alike."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from nutshell.models.language import build, model_config
from nutshell.models.language.architectures import CAUSAL, complete, context
from tests.models.language import tiny

LANGUAGE = """\
task: language_model
seeds: [13]
model: {name: PLACE}
data: {name: text, path: STORIES, block_tokens: 16}
training: {max_steps: 1}
"""
PROMPTS = """\
task: generate
seeds: [13]
model: {name: PLACE}
prompts: [Once]
generation: {max_new_tokens: 4}
"""
ROPE = "what a token costs would depend on how long the text after it is"
CONFIGS = {
    "another architecture": ({"model_type": "t5"}, "is a t5 checkpoint; this task runs gpt2, llama, qwen2"),
    "no architecture": ({"model_type": None}, "names no model_type"),
    "code of its own": ({"auto_map": {"AutoModelForCausalLM": "m.M"}}, "names code of its own (auto_map)"),
    "quantized": ({"quantization_config": {"quant_method": "bitsandbytes"}}, "its weights are quantized"),
    "dynamic positions": ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, ROPE),
    "long positions": (
        {"rope_parameters": {"rope_type": "longrope", "factor": 2.0}},
        "longrope is not served, but default, linear",
    ),
    "positions by layer": ({"rope_parameters": {"full_attention": {"rope_type": "dynamic"}}}, ROPE),
    "positions in words": ({"rope_parameters": "dynamic"}, "rope_parameters: expected a mapping"),
    "sees what comes": ({"use_bidirectional_attention": True}, "each token would see those after it"),
    "too many layers": ({"num_hidden_layers": 3}, "lacks weights, all of layer 2 among them"),
    "too few layers": ({"num_hidden_layers": 1}, "has weights that its config has no room for, layers.1."),
    "another vocabulary": ({"vocab_size": 300}, ".weight has 257 rows, expected 300 by its vocab_size"),
    "another width": ({"hidden_size": 48, "head_dim": 8}, "embed_tokens.weight has 32 columns, expected 48"),
    "another feed-forward": ({"intermediate_size": 64}, "has 48 rows, expected 64 by its intermediate_size"),
    "other groups of heads": ({"num_key_value_heads": 4}, "has 16 rows, expected 32 by its num_key_value_heads"),
    "layers in words": ({"num_hidden_layers": "two"}, "num_hidden_layers: expected a whole number from 1 to 1,000"),
    "no end": ({"eos_token_id": []}, "but one token must end a document"),
    "an end outside": ({"eos_token_id": [999]}, "eos_token_id 999, which is no token"),
}


@pytest.fixture
def changed(checkpoints, tmp_path):
    """A llama whose config is another one."""

    def _changed(**keys):
        folder = shutil.copytree(checkpoints["llama"], tmp_path / "changed")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | keys))
        return folder

    return _changed


@pytest.mark.parametrize("text", [LANGUAGE, PROMPTS], ids=["language_model", "generate"])
@pytest.mark.parametrize("case", CONFIGS)
def test_configs(case, text, changed, write, nutshell, tmp_path):
    keys, message = CONFIGS[case]
    file = write(text.replace("PLACE", str(changed(**keys))))
    for command in ("show", "run"):
        code, _, err = nutshell(command, file)
        assert code == 2 and message in err and "Traceback" not in err, err
    assert not [*(tmp_path / "outputs").rglob("experiment.yaml")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: w.pop("model.layers.1.mlp.up_proj.weight"),
            "lacks weights, mlp.up_proj.weight of layer 1 among them",
        ),
        (lambda w: w.pop("model.norm.weight"), "lacks weights, norm.weight among them"),
        (lambda w: w.pop("lm_head.weight"), "lacks weights, lm_head.weight among them"),
        (
            lambda w: w.update({"v_head.weight": w["model.norm.weight"].clone()}),
            "no room for, v_head.weight among them",
        ),
        (lambda w: w.update({"lm_head.weight": w["lm_head.weight"][:9].clone()}), "has 9 rows, expected 257"),
    ],
)
def test_weights(change, message, changed, write, nutshell):
    folder = changed()
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for command in ("show", "run"):
        code, _, err = nutshell(command, write(PROMPTS.replace("PLACE", str(folder))))
        assert code == 2 and message in err, err


@pytest.mark.parametrize("name", ["llama", "gpt_neox"])
def test_frequencies_and_masks_of_old_checkpoints_are_passed_over(name, checkpoints, write, nutshell, tmp_path):
    folder = shutil.copytree(checkpoints[name], tmp_path / "old")
    weights = load_file(folder / "model.safetensors")
    part, mask = (
        ("model.layers.0.self_attn", "x.attn.masked_bias") if name == "llama" else ("gpt_neox.layers.0.attention",) * 2
    )
    extra = {f"{part}.rotary_emb.inv_freq": torch.ones(4)} | (
        {f"{mask}.bias": torch.ones(1, 1, 4, 4)} if name == "gpt_neox" else {}
    )
    save_file(weights | extra, folder / "model.safetensors", {"format": "pt"})
    for command in ("show", "run"):
        code, _, err = nutshell(command, write(PROMPTS.replace("PLACE", str(folder))))
        assert code == 0, err


BLOCKS = {
    "llama, num_attention_heads: 3, hidden_size: 32": "hidden size 32 is no multiple of 3 heads",
    "llama, num_attention_heads: 4, hidden_size: 32, num_key_value_heads: 3": "4 heads are no multiple of num_key_value_heads, 3",
    "qwen2, vocab_size: 9": "model.config.vocab_size does not belong in an experiment: it follows from the tokenizer",
    "gpt_neox, hidden_sizes: 9": "unknown key in model.config: 'hidden_sizes'",
    "opt, eos_token_id: 3": "model.config.eos_token_id does not belong",
    "mistral, sliding_window: 0": "model.config.sliding_window",
    "gemma, hidden_act: gelou": "model.config.hidden_act",
    "gemma, use_bidirectional_attention: true": "model.config.use_bidirectional_attention does not belong",
    "llama, rope_parameters: {rope_type: dynamic, factor: 2.0}": ROPE,
    "llama, rope_parameters: {rope_type: yarn, rope_theta: 1e4}": "no llama can be made of it",
    "llama, max_position_embeddings: 8": "data.block_tokens: 16 is more than the 8 positions of a llama",
}


@pytest.mark.parametrize("block", BLOCKS)
def test_new_models(block, write, nutshell):
    text = LANGUAGE.replace("{name: PLACE}", f"{{config: {{model_type: {block}}}, tokenizer: bytes}}")
    for command in ("show", "run"):
        code, _, err = nutshell(command, write(text))
        assert code == 2 and BLOCKS[block] in err and "Traceback" not in err, err


@pytest.mark.parametrize("name", CAUSAL)
def test_the_block_of_a_new_model_takes_the_sizes_of_its_config(name):
    keys = {"model_type": name, **tiny.SIZES[name]}
    assert model_config.check_config(keys) == keys
    with pytest.raises(ValueError, match="nonsense"):
        model_config.check_config(keys | {"nonsense": 1})
    unlimited = name in ("lstm", "bloom")
    assert context(keys) == (None if unlimited else 64) and complete(keys)["vocab_size"] > 30000


def test_a_new_model_of_another_architecture_runs(write, nutshell, result):
    block = "config: {model_type: qwen3, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, "
    block += "num_key_value_heads: 1, head_dim: 16, intermediate_size: 48}"
    text = LANGUAGE.replace("name: PLACE", f"{block}, tokenizer: bytes")
    assert nutshell("show", write(text))[0] == 0
    code, _, err = nutshell("run", write(text))
    assert code == 0 and result()["metrics"]["bits_per_byte"]["value"] == pytest.approx(8, abs=0.3), err


def test_a_byte_is_no_padding_of_a_new_model():
    """Some configs name a padding token, whose embedding is never trained."""
    for name in ("opt", "gemma", "smollm3"):
        model = build.create({"model_type": name, **tiny.SIZES[name]}, 257, 256, seed=1)
        assert model.get_input_embeddings().padding_idx is None and model.config.pad_token_id is None
        assert model.get_input_embeddings().weight[:3].abs().sum(1).all()
