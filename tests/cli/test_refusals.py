"""What `show` and `run` refuse alike, before torch is loaded."""

import json
import shutil

import pytest

from nutshell.models import headers
from nutshell.runs import runner
from tests.conftest import PROMPTS_YAML, SMALL_YAML, TEXT_YAML


@pytest.fixture
def refused(write, nutshell, monkeypatch, tmp_path):
    """Shows and runs a faulty experiment; returns what both say."""

    def _refused(text: str, *words) -> str:
        file = write(text)
        monkeypatch.setattr(runner, "run", lambda *_: pytest.fail("the run began"))
        (code, out, shown), (run_code, _, run_message) = nutshell("show", file, *words), nutshell("run", file, *words)
        assert (code, run_code) == (2, 2) and out == "" and shown == run_message
        assert not (tmp_path / "outputs").exists() and "Traceback" not in shown
        return shown

    return _refused


@pytest.fixture
def edit(tmp_path):
    """Copies a checkpoint, with other values in its config."""

    def _edit(folder, **values):
        copy = shutil.copytree(folder, tmp_path / "checkpoint")
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | values))
        return copy

    return _edit


def test_an_unknown_model(refused):
    assert "model.name: nowhere is no folder here" in refused(SMALL_YAML, "model.name=nowhere")


def test_weights_in_a_pickle(refused, edit, tiny, causal):
    folder = edit(tiny)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "weights in a pickle are not loaded" in refused(SMALL_YAML, f"model.name={folder}")
    (folder / "pytorch_model.bin").unlink()
    assert "no model.safetensors" in refused(SMALL_YAML, f"model.name={folder}")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"num_hidden_layers": 3}, "lacks weights, all of layer 2 among them"),
        ({"num_hidden_layers": 1}, "has weights that its config has no room for, encoder.layer.1."),
        ({"vocab_size": 30000}, "embeddings.word_embeddings.weight has 30,522 rows, expected 30,000 by its vocab_size"),
    ],
)
def test_an_encoder_that_is_not_its_config_s(values, reason, refused, edit, tiny):
    assert reason in refused(SMALL_YAML, f"model.name={edit(tiny, **values)}")


def test_a_header_that_is_cut_short(refused, edit, causal, tiny):
    file = edit(tiny) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert "its weights cannot be read: model.safetensors" in refused(SMALL_YAML, f"model.name={file.parent}")


def test_an_index_without_its_files(refused, edit, tiny):
    folder = edit(tiny)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = folder / headers.INDEX
    index.write_text(json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}}))
    assert "model-00002-of-00002.safetensors" in refused(SMALL_YAML, f"model.name={folder}")
    index.write_text("[]")
    assert "is damaged; it should say in which file each weight is" in refused(SMALL_YAML, f"model.name={folder}")


def test_a_head_for_other_labels(refused, edit, tiny):
    from safetensors.numpy import load_file, save_file

    folder = edit(tiny, id2label={"0": "negative", "1": "positive"})
    encoder = load_file(folder / "model.safetensors")
    some = next(iter(encoder.values()))
    for count in (2, 3):
        head = {"classifier.weight": some.__class__((count, 32), some.dtype)}
        save_file(encoder | head, folder / "model.safetensors", {"format": "pt"})
        said = refused(SMALL_YAML, f"model.name={folder}")
        assert "its head tells negative, positive apart" in said and "model.new_head: true" in said


def test_a_tokenizer_that_is_not_bert_s(refused, edit, tiny, causal):
    folder = edit(tiny)
    shutil.copy(causal["gpt2"] / "tokenizer.json", folder)
    assert "puts no special tokens before, between and after texts, as BERT's [CLS] and [SEP]" in refused(
        SMALL_YAML, f"model.name={folder}"
    )


def test_a_pickle_on_the_hub_is_refused_by_its_name(write, nutshell, tiny, tmp_path, monkeypatch):
    commit = "a" * 40
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "hub" / "models--some--model" / "snapshots" / commit
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").unlink()
    file = write(SMALL_YAML.replace("name: TINY", f"name: some/model, revision: {commit}"))
    code, out, err = nutshell("show", file)
    assert code == 0 and "# steps:" in out, err  # off line: the weights may be there
    monkeypatch.setattr("huggingface_hub.list_repo_files", lambda *_, **__: ["config.json", "pytorch_model.bin"])
    code, out, err = nutshell("show", file)
    assert code == 2 and out == "" and "no model.safetensors but pytorch_model.bin" in err


LONG = "'" + "x" * 70 + "'"


@pytest.mark.parametrize(
    ("text", "words", "reason"),
    [
        (PROMPTS_YAML, [f"prompts=[{LONG}]"], "has 70 tokens, 6 more than the 64 positions"),
        (PROMPTS_YAML, ["generation.max_new_tokens=63"], "do not fit into the 64 positions of the model"),
        (PROMPTS_YAML, ["generation.suppress_tokens=[9999]"], "9999 is no token"),
        (
            TEXT_YAML,
            [f"samples=[{LONG}]", "generation.max_new_tokens=4"],
            "has 70 tokens, 6 more than the 64 positions",
        ),
        (TEXT_YAML, ["data.block_tokens=65"], "65 is more than the 64 positions"),
    ],
)
def test_prompts_and_blocks_that_do_not_fit(text, words, reason, refused):
    assert reason in refused(text, *words)


def test_show_refuses_prompts_of_a_model_that_is_to_be_made(write, nutshell):
    config = "model: {config: {model_type: gpt2, n_embd: 8, n_head: 2, n_layer: 1, n_positions: 32}, tokenizer: bytes}"
    words = ["samples=[A text that is longer than what the model can be fed]", "generation.max_new_tokens=4"]
    code, out, err = nutshell("show", write(TEXT_YAML.replace("model: {name: CAUSAL}", config)), *words)
    assert code == 2 and out == "" and "more than the 32 positions" in err


def test_gpt2_weights_that_are_not_its_config_s(refused, edit, causal):
    folder = edit(causal["gpt2"], n_layer=3)
    assert "lacks weights, all of layer 2" in refused(PROMPTS_YAML, f"model.name={folder}")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_layer": 1}))
    assert "has weights that its config has no room for, h.1." in refused(PROMPTS_YAML, f"model.name={folder}")


def test_problems_of_several_experiments_come_together(write, nutshell):
    files = [write(SMALL_YAML.replace("TINY", name), f"finetune/{name}.yaml") for name in ("here", "there")]
    for command in ("show", "run"):
        code, out, err = nutshell(command, *files)
        assert code == 2 and out == "" and "here.yaml: model.name: here" in err and "there.yaml: model.name" in err


def test_a_model_that_an_earlier_experiment_makes(write, nutshell, tmp_path):
    first = write(TEXT_YAML, "chain/first.yaml")
    second = write(PROMPTS_YAML.replace("CAUSAL", str(tmp_path / "outputs/chain/first")), "chain/second.yaml")
    code, out, err = nutshell("show", first, second)
    assert code == 0 and "is what an earlier of these experiments leaves behind" in out, err
    code, _, err = nutshell("show", second, first)
    assert code == 2 and "is no folder here" in err
    code, out, err = nutshell("run", first, second)
    assert code == 0 and "experiment 2 of 2: chain/second: seed 13" in err, err


def test_a_finished_run_does_not_need_its_model_again(write, nutshell, edit, tiny):
    folder = edit(tiny)
    file = write(SMALL_YAML)
    assert nutshell("run", file, f"model.name={folder}")[0] == 0
    shutil.rmtree(folder)
    code, _, err = nutshell("run", file, f"model.name={folder}")
    assert code == 0 and "complete, nothing to run" in err
