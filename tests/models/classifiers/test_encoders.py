"""What the configs and headers of checkpoints tell before torch is loaded."""

import json
import shutil
import subprocess
import sys

import pytest
from safetensors.numpy import load_file, save_file

from nutshell.machine.errors import UserError
from nutshell.models.classifiers import encoders
from nutshell.models.classifiers.encoders import ENCODERS
from tests.models.classifiers.tiny import POSITIONS, block


@pytest.fixture
def changed(checkpoints, tmp_path):
    """A copy of a checkpoint with another config."""

    def _changed(name: str, **keys):
        folder = shutil.copytree(checkpoints[name], tmp_path / "changed")
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | keys))
        return folder

    return _changed


@pytest.mark.parametrize("name", ENCODERS)
def test_the_defaults_are_transformers_own(name):
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[name]()
    assert encoders.complete({"model_type": name}) == {
        "model_type": name,
        **{key: getattr(config, key, 0) for key in encoders.DEFAULTS[name]},
    }


@pytest.mark.parametrize("name", ENCODERS)
def test_as_many_tokens_as_positions_can_be_read_and_not_one_more(name, checkpoints):
    """Where positions are a table; rotary and relative ones have no end."""
    import torch
    from transformers import AutoModel

    model, most = AutoModel.from_pretrained(checkpoints[name]), encoders.positions(model_config(checkpoints[name]))
    assert most == (None if name == "deberta-v2" else POSITIONS)
    model(input_ids=torch.full((1, POSITIONS), 9))
    if name not in ("deberta-v2", "modernbert"):
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, POSITIONS + 1), 9))
        with pytest.raises(UserError, match="49 is more than the 48 positions of tiny"):
            encoders.check(checkpoints[name], block(), POSITIONS + 1)
    encoders.check(checkpoints[name], block(), POSITIONS)


def model_config(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("name", ENCODERS)
def test_only_what_a_model_s_forward_takes_is_fed(name, checkpoints):
    import inspect

    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(checkpoints[name])
    names = encoders.input_names(model_config(checkpoints[name]))
    assert {*names} <= {*inspect.signature(model.forward).parameters}
    types = [weights.shape[0] for key, weights in model.state_dict().items() if "token_type_embeddings" in key]
    assert ("token_type_ids" in names) == (types == [2])


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("bert", {"num_hidden_layers": 1}, "has weights that its config has no room for, encoder.layer.1"),
        ("bert", {"num_hidden_layers": 3}, "lacks weights, all of layer 2 among them"),
        ("distilbert", {"n_layers": 1}, "has weights that its config has no room for"),
        ("modernbert", {"num_hidden_layers": 1}, "has weights that its config has no room for"),
        ("albert", {"num_hidden_groups": 2}, "lacks weights, all of layer 1 among them"),
        ("bert", {"vocab_size": 500}, "word_embeddings.weight has .* rows, expected 500 by its vocab_size"),
        ("modernbert", {"vocab_size": 500}, "tok_embeddings.weight has .* rows, expected 500 by its vocab_size"),
        ("roberta", {"max_position_embeddings": 60}, "has 50 rows, expected 60 by its max_position_embeddings"),
        ("bert", {"type_vocab_size": 3}, "has 2 rows, expected 3 by its type_vocab_size"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type is relative_key"),
    ],
)
def test_a_config_of_other_weights(name, keys, message, changed):
    with pytest.raises(UserError, match=message):
        encoders.check(changed(name, **keys), block(), 8)


def test_albert_has_no_layers_of_its_own_to_train(checkpoints):
    with pytest.raises(UserError, match="last_1, but ALBERT uses one layer 2 times: all or head"):
        encoders.check(checkpoints["albert"], block(trainable="last_1"), 8)
    with pytest.raises(UserError, match="last_3, but the model has 2 layers"):
        encoders.check(checkpoints["bert"], block(trainable="last_3"), 8)


@pytest.mark.parametrize(
    ("rows", "names", "labels", "message"),
    [
        (2, None, ("a", "b"), None),
        (2, ["LABEL_0", "LABEL_1"], ("a", "b"), None),
        (2, ["a", "b"], ("a", "b"), None),
        (2, ["b", "a"], ("a", "b"), "its head tells b, a apart, this data set has labels a, b; model.new_head: true"),
        (3, None, ("a", "b"), "its head has 3 outputs, this data set has labels a, b; model.new_head: true"),
        (3, ["a", "b", "c"], (), "tells a, b, c apart, this data set has numbers, which need one output"),
        (1, None, (), None),
        (1, ["LABEL_0"], ("a", "b"), "its head has 1 output, this data set has labels a, b"),
    ],
)
@pytest.mark.parametrize("head", ["classifier.weight", "classifier.out_proj.weight"])
def test_a_head_of_other_labels(head, rows, names, labels, message, changed):
    keys = {} if names is None else {"id2label": {str(number): name for number, name in enumerate(names)}}
    folder = changed("bert", **keys)
    weights = load_file(folder / "model.safetensors")
    weights[head] = weights["pooler.dense.weight"][:rows].copy()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    encoders.check_head(folder, labels, new_head=True)
    if message:
        with pytest.raises(UserError, match=message):
            encoders.check_head(folder, labels, new_head=False)
    else:
        encoders.check_head(folder, labels, new_head=False)


def test_an_earlier_sop_head_is_none_of_labels(changed):
    """ALBERT's pre-training had one of two rows, in sop_classifier.classifier."""
    folder = changed("albert")
    weights = load_file(folder / "model.safetensors")
    weights["sop_classifier.classifier.weight"] = weights["pooler.weight"][:2].copy()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    encoders.check_head(folder, ("a", "b", "c"), new_head=False)


def test_lora_settles_what_is_trained():
    assert not [*encoders.problems({"lora": {"rank": 8}})] and not [*encoders.problems({"trainable": "head"})]
    [(path, message)] = encoders.problems({"lora": {"rank": 8}, "trainable": "head"})
    assert path == ("model", "trainable") and "model.lora settles which parameters are trained" in message


def test_neither_torch_nor_transformers_is_needed():
    code = "import sys, nutshell.models.classifiers.encoders; assert not {'torch', 'transformers', 'peft'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
