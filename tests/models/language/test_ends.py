"""The token that ends a text: one of several, and the same from the checkpoint to the saved model."""

import json
import shutil

import pytest

from nutshell.data.encoding import vocabularies
from nutshell.machine.errors import UserError
from nutshell.models.find import read_config
from nutshell.models.language import build

YAML = """\
task: language_model
seeds: [13]
model: {name: PLACE}
data: {name: text, path: STORIES, block_tokens: 16}
samples: [Story]
generation: {max_new_tokens: 4}
training: {max_steps: 2, per_device_train_batch_size: 8, eval_strategy: epoch}
"""


@pytest.fixture
def checkpoint(checkpoints, tmp_path):
    """A checkpoint whose config and tokenizer say what ends a text."""

    def _checkpoint(config, own: str | None = None, name: str = "llama"):
        folder = shutil.copytree(checkpoints[name], tmp_path / "checkpoint", dirs_exist_ok=True)
        for file, keys in (("config.json", {"eos_token_id": config}), ("tokenizer_config.json", {"eos_token": own})):
            content = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps({**content, **{key: value for key, value in keys.items() if value}}))
        return folder

    return _checkpoint


@pytest.mark.parametrize(
    ("config", "own", "expected"),
    [(7, "!", 7), ([256, 7], None, 256), ([7, 256], None, 256), ([7, 9], None, 7), ([256, 0], "!", 0), ([7], "!", 7)],
)
def test_one_of_several_ends(config, own, expected, checkpoint):
    """The tokenizer's own if it is among them, else the first; the model and the tokenizer agree on it."""
    folder = checkpoint(config, own)
    assert vocabularies.of_checkpoint(folder, read_config(folder)).end_of_text == expected
    model = build.load(folder)
    assert model.config.eos_token_id == expected == model.generation_config.eos_token_id


@pytest.mark.parametrize("wrong", [["x"], [[1]], [999], "x"])
def test_an_end_that_is_none(wrong, checkpoint):
    folder = checkpoint(wrong)
    with pytest.raises(UserError, match="eos_token_id"):
        vocabularies.of_checkpoint(folder, read_config(folder))


def test_the_saved_model_ends_texts_as_it_was_trained_to(checkpoint, write, nutshell, tmp_path, result):
    """Whatever the tokenizer says: of a chat model that is the end of a turn. Stock Trainer puts it into the config."""
    folder = checkpoint(256, "!")
    assert vocabularies.of_checkpoint(folder, read_config(folder)).own_end_of_text == 0
    code, _, errors = nutshell("run", write(YAML.replace("PLACE", str(folder))))
    assert code == 0, errors
    saved = tmp_path / "outputs/finetune/pairs/seed-13/model"
    for file in ("config.json", "generation_config.json"):
        ends = json.loads((saved / file).read_text())
        assert (ends["bos_token_id"], ends["eos_token_id"]) == (256, 256)
    assert json.loads((saved / "tokenizer_config.json").read_text())["eos_token"] == "!"
    assert vocabularies.of_checkpoint(saved, read_config(saved)).end_of_text == 256
