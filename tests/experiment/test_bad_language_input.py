"""Mistakes in an experiment with a language model: one clear message, exit code 2, nothing left behind."""

import json
import shutil

import pytest

from tests.conftest import PROMPTS_YAML, TEXT_YAML

LANGUAGE = TEXT_YAML.replace(
    "model: {name: CAUSAL}", "model: {config: {model_type: gpt2, n_embd: 8}, tokenizer: bytes}"
)
CAUSAL_FILES = {
    "neither a checkpoint nor a config": (
        LANGUAGE.replace("config: {model_type: gpt2, n_embd: 8}, tokenizer: bytes", ""),
        ["prompts.yaml:3: model: state either name, a checkpoint, or config"],
    ),
    "both": (LANGUAGE.replace("{config", "{name: CAUSAL, config"), ["model: state either name"]),
    "another tokenizer for a checkpoint": (
        TEXT_YAML.replace("name: CAUSAL", "name: CAUSAL, tokenizer: bytes"),
        ["model.tokenizer: a checkpoint comes with its own tokenizer"],
    ),
    "no tokenizer": (LANGUAGE.replace(", tokenizer: bytes", ""), ["model.tokenizer is missing: bytes, or bpe"]),
    "bpe of no size": (LANGUAGE.replace("bytes", "bpe"), ["model.vocab_size is the size of a bpe"]),
    "a vocabulary too small to train": (
        LANGUAGE.replace("tokenizer: bytes", "tokenizer: bpe, vocab_size: 256"),
        ["model.vocab_size: should be greater than or equal to 257, not 256"],
    ),
    "an unknown architecture": (
        LANGUAGE.replace("model_type: gpt2", "model_type: gpt3"),
        ["model.config: expected model_type: gpt2, llama, qwen2"],
    ),
    "an unknown key of the config": (
        LANGUAGE.replace("n_embd: 8", "n_emb: 8"),
        ["prompts.yaml:3: unknown key in model.config: 'n_emb' is not known; did you mean 'n_embd'?"],
    ),
    "a config key in words": (LANGUAGE.replace("n_embd: 8", "n_layer: two"), ["model.config.n_layer", "not 'two'"]),
    "no layers": (
        LANGUAGE.replace("n_embd: 8", "n_layer: 0"),
        ["model.config.n_layer: should be greater than or equal to 1"],
    ),
    "a vocabulary in the config": (
        LANGUAGE.replace("n_embd: 8", "vocab_size: 8"),
        ["model.config.vocab_size does not belong in an experiment: it follows from the tokenizer"],
    ),
    "an untrained new model": (
        LANGUAGE.replace("max_steps: 2", "num_train_epochs: 0"),
        ["training.num_train_epochs: 0 leaves a model of model.config untrained"],
    ),
    "windows that skip tokens": (
        TEXT_YAML + "evaluation: {stride: 17}\n",
        ["evaluation.stride: 17 would skip tokens between windows of data.block_tokens 16"],
    ),
    "blocks grouped by length": (
        TEXT_YAML.replace("max_steps: 2", "max_steps: 2, train_sampling_strategy: group_by_length"),
        ["training.train_sampling_strategy: blocks are of one length"],
    ),
    "text from nowhere": (TEXT_YAML.replace("path: STORIES, ", ""), ["data.path is missing: a text file"]),
    "embedded text from somewhere": (
        TEXT_YAML.replace("name: text", "name: sample_text"),
        ["data.path: sample_text is embedded"],
    ),
    "labelled data": (TEXT_YAML.replace("name: text", "name: mrpc"), ["data.name: expected 'imdb'", "not 'mrpc'"]),
    "a classifier's band": (TEXT_YAML + "reference: {source: x, f1: [0, 1]}\n", ["unknown key in reference: 'f1'"]),
    "samples that are never continued": (
        TEXT_YAML.replace(", eval_strategy: epoch", "") + "samples: [a]\ngeneration: {max_new_tokens: 3}\n",
        ["samples: are continued at each evaluation, but training.eval_strategy is no"],
    ),
    "steps in words": (
        LANGUAGE.replace("max_steps: 2", "num_train_epochs: 0, max_steps: abc"),
        ["training.max_steps: expected a whole number, not 'abc'"],
    ),
    "no config": (LANGUAGE.replace("{model_type: gpt2, n_embd: 8}", "null"), ["model: state either name"]),
    "no name": (TEXT_YAML.replace("name: CAUSAL", "name: null"), ["model: state either name"]),
    "a tokenizer that is none": (
        LANGUAGE.replace("tokenizer: bytes", "tokenizer: null"),
        ["model.tokenizer is missing"],
    ),
    "a size that is none": (
        LANGUAGE.replace("tokenizer: bytes", "tokenizer: bpe, vocab_size: null"),
        ["model.vocab_size is the size of a bpe"],
    ),
    "smoothed labels": (
        TEXT_YAML.replace("max_steps: 2", "max_steps: 2, label_smoothing_factor: 0.1"),
        ["training.label_smoothing_factor: Trainer would smooth"],
    ),
    "dropped windows": (
        TEXT_YAML.replace("max_steps: 2", "max_steps: 2, dataloader_drop_last: true"),
        ["training.dataloader_drop_last does not belong in an experiment"],
    ),
    "an unknown activation": (
        LANGUAGE.replace("n_embd: 8", "activation_function: gulu"),
        ["model.config.activation_function: expected one of ", "not 'gulu'; did you mean 'gelu'?"],
    ),
    "prompts that are numbers": (
        PROMPTS_YAML.replace("[Once, The", "[5, The"),
        ["prompts: expected a list of texts or {messages: [...]}, or the name of a file of them, not [5,"],
    ),
    "more tokens at least than at most": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, min_new_tokens: 9"),
        ["generation: min_new_tokens 9 is more than max_new_tokens"],
    ),
    "samples without a length": (TEXT_YAML + "samples: [a]\n", ["generation.max_new_tokens is missing"]),
    "generation without samples": (
        TEXT_YAML + "generation: {max_new_tokens: 3}\n",
        ["generation: continues the prompts of samples, but there are none"],
    ),
    "no prompts": (
        PROMPTS_YAML.replace('[Once, The cat sat on, "", A long prompt of more words]', "[]"),
        ["prompts.yaml:4: prompts: the list is empty"],
    ),
    "an unknown key of generation": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokns: 8"),
        ["unknown key in generation: 'max_new_tokns' is not known; did you mean 'max_new_tokens'?"],
    ),
    "a length that depends on the batch": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, max_length: 9"),
        ["generation.max_length does not belong in an experiment", "state max_new_tokens"],
    ),
    "no new tokens": (PROMPTS_YAML.replace("tokens: 8", "tokens: 0"), ["should be greater than or equal to 1"]),
    "temperature that makes scores infinite": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, do_sample: true, temperature: 1e-40"),
        ["generation.temperature: should be greater than or equal to 0.001, not 1e-40"],
    ),
    "temperature without sampling": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, temperature: 0.5"),
        ["generation: `temperature`", "do_sample"],
    ),
    "beams that are drawn": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, num_beams: 2, do_sample: true"),
        ["generation.num_beams: beams and do_sample together"],
    ),
    "samples of the most likely text": (
        PROMPTS_YAML + "samples_per_prompt: 2\n",
        ["samples_per_prompt: without generation.do_sample a prompt's 2 texts would be equal"],
    ),
    "greedy twice": (PROMPTS_YAML + "greedy: true\n", ["greedy: without generation.do_sample"]),
    "training where nothing is trained": (
        PROMPTS_YAML + "training: {learning_rate: 1}\n",
        ["unknown key in training: 'learning_rate' is not known; known are per_device_eval_batch_size"],
    ),
}


@pytest.mark.parametrize("case", CAUSAL_FILES)
@pytest.mark.parametrize("command", ["run", "show"])
def test_language_experiment_file(case, command, write, nutshell, tmp_path):
    text, messages = CAUSAL_FILES[case]
    code, _, err = nutshell(command, write(text, "generate/prompts.yaml"))
    assert code == 2
    for words in messages:
        assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "outputs").exists()


CAUSAL_RUNS = {
    "a block longer than the context": (
        TEXT_YAML.replace("block_tokens: 16", "block_tokens: 65"),
        ["data.block_tokens: 65 is more than the 64 positions of"],
    ),
    "a block longer than a new model's context": (
        LANGUAGE.replace("n_embd: 8", "n_positions: 8"),
        ["data.block_tokens: 16 is more than the 8 positions of a gpt2 of this model.config"],
    ),
    "heads that do not divide": (
        LANGUAGE.replace("n_embd: 8", "n_embd: 9, n_head: 2"),
        ["model.config: hidden size 9 is no multiple of 2 heads"],
    ),
    "a model that no memory holds": (
        LANGUAGE.replace("n_embd: 8", "n_embd: 100000000, n_head: 1"),
        ["model.config: no gpt2 can be made of it", "memory"],
    ),
    "a token that is none": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, bad_words_ids: [[1], [999]]"),
        ["generation.bad_words_ids: 999 is no token; the model's are 0 to 256"],
    ),
    "suppressed tokens that are none": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 8, suppress_tokens: [257]"),
        ["generation.suppress_tokens: 257 is no token"],
    ),
    "half a character": (
        PROMPTS_YAML.replace("Once", '"\\ud83d"'),
        ["prompts.yaml:4: not valid YAML: an escape is half of a character"],
    ),
    "a vocabulary larger than the text": (
        LANGUAGE.replace("tokenizer: bytes", "tokenizer: bpe, vocab_size: 5000"),
        ["model.vocab_size: 5000 tokens are more than a training part of", "state at most that"],
    ),
    "a BERT": (TEXT_YAML.replace("CAUSAL", "TINY"), ["is a bert checkpoint; this task runs gpt2, llama"]),
    "a BERT to prompt": (PROMPTS_YAML.replace("CAUSAL", "TINY"), ["is a bert checkpoint; this task runs gpt2"]),
    "a run that is not there": (
        PROMPTS_YAML.replace("CAUSAL", "outputs/quickstart/nothing"),
        ["outputs/quickstart/nothing is no folder here (in", "if it is an earlier run's, run that first"],
    ),
    "a prompt longer than the context": (
        PROMPTS_YAML.replace("Once", "x" * 70),
        ['prompt 1 ("' + "x" * 40 + '..."): has 70 tokens, 6 more than the 64 positions'],
    ),
    "new tokens that do not fit": (
        PROMPTS_YAML.replace("max_new_tokens: 8", "max_new_tokens: 50"),
        ["generation.max_new_tokens: 50 after the 27 tokens of prompt 4", "at most 37"],
    ),
    "samples that do not fit": (
        TEXT_YAML + "samples: [abc]\ngeneration: {max_new_tokens: 62}\n",
        ['generation.max_new_tokens: 62 after the 3 tokens of prompt 1 ("abc")', "at most 61"],
    ),
    "all of the text held out": (
        TEXT_YAML.replace("block_tokens: 16", "block_tokens: 16, test_bytes: 100000"),
        ["data.test_bytes: 100,000 is all there is of the training part"],
    ),
}


@pytest.mark.parametrize("case", CAUSAL_RUNS)
def test_what_a_language_run_finds_wrong(case, write, nutshell, tmp_path):
    text, messages = CAUSAL_RUNS[case]
    code, _, err = nutshell("run", write(text, "generate/prompts.yaml"))
    assert code == 2
    for words in messages:
        assert words in err
    assert "Traceback" not in err
    assert not list((tmp_path / "outputs").rglob("experiment.yaml"))


TEXTS = {
    "not UTF-8": (b"good \xe4 bad", ["text.txt: not UTF-8 text: byte 0xe4 at offset 5"]),
    "an empty file": (b"", ["text.txt: is empty"]),
    "blanks alone": (b" \n\n", ["text.txt: is empty"]),
    "a byte-order mark alone": (b"\xef\xbb\xbf", ["text.txt: is empty"]),
}


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("text", [TEXT_YAML, PROMPTS_YAML], ids=["data", "prompts"])
def test_text_files(case, text, write, nutshell, tmp_path):
    raw, messages = TEXTS[case]
    (tmp_path / "text.txt").write_bytes(raw)
    word = f"data.path={tmp_path / 'text.txt'}" if text == TEXT_YAML else f"prompts={tmp_path / 'text.txt'}"
    code, _, err = nutshell("run", write(text, "generate/prompts.yaml"), word)
    assert code == 2 and all(words in err for words in messages) and "Traceback" not in err


def test_an_empty_prompt_needs_a_start_token(causal, write, nutshell, tmp_path):
    folder = shutil.copytree(causal["scratch"], tmp_path / "startless")
    config = json.loads((folder / "config.json").read_text())
    config.pop("bos_token_id")
    (folder / "config.json").write_text(json.dumps(config))
    code, _, err = nutshell("run", write(PROMPTS_YAML.replace("CAUSAL", str(folder)), "generate/prompts.yaml"))
    assert code == 2 and 'prompt 3 (""): is empty, and the model has no start token' in err


def test_weights_without_a_place(causal, write, nutshell, tmp_path):
    folder = shutil.copytree(causal["gpt2"], tmp_path / "deeper")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_layer": 1}))
    code, _, err = nutshell("run", write(PROMPTS_YAML.replace("CAUSAL", str(folder)), "generate/prompts.yaml"))
    assert code == 2 and "has weights that its config has no room for, h.1." in err


def test_a_mistake_costs_no_earlier_results(write, nutshell, tmp_path):
    file = write(PROMPTS_YAML, "generate/prompts.yaml")
    assert nutshell("run", file)[0] == 0
    words = ["generation.bad_words_ids=[[999]]", "--force"]
    assert nutshell("run", file, *words)[0] == 2
    assert (tmp_path / "outputs" / "generate" / "prompts" / "seed-13" / "metrics.json").exists()


def test_a_prompts_file_that_is_not_there(write, nutshell):
    code, _, err = nutshell("run", write(PROMPTS_YAML, "generate/prompts.yaml"), "prompts=nothing.txt")
    assert code == 2 and "nothing.txt: cannot be read: No such file" in err


def test_a_language_model_that_diverges(write, nutshell, tmp_path):
    text = LANGUAGE.replace("n_embd: 8", "n_embd: 8, n_head: 2").replace(
        "max_steps: 2", "max_steps: 6, learning_rate: 1e30"
    )
    code, _, err = nutshell("run", write(text, "language_model/text.yaml"), "training.max_grad_norm=0")
    assert code == 2 and "training diverged at step " in err and "Try a lower training.learning_rate" in err
    assert not list((tmp_path / "outputs").rglob("metrics.json"))
