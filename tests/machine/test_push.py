"""Pushing a complete run's model to the Hub, once, at the end; the Hub itself is played by a fake."""

import huggingface_hub
import pytest
from huggingface_hub import RepoUrl
from huggingface_hub.errors import LocalTokenNotFoundError

from tests.conftest import SMALL_YAML

PUSHED = SMALL_YAML.replace(
    "max_steps: 2,", "max_steps: 2, save_strategy: steps, save_steps: 1, push_to_hub: true, hub_model_id: me/pairs,"
)


class FakeHub:
    """Notes what it is asked, and what was in the folder at that moment."""

    endpoint = "https://hub.example"

    def __init__(self):
        self.created, self.uploads, self.refuses, self.fails_to_upload = [], [], None, False

    def __call__(self):
        return self

    def create_repo(self, name, private=None, exist_ok=False):
        if self.refuses:
            raise self.refuses
        self.created.append((name, private, exist_ok))
        return RepoUrl(f"{self.endpoint}/{name}", endpoint=self.endpoint)

    def upload_folder(self, *, folder_path, ignore_patterns=(), **about):
        if self.fails_to_upload:
            raise OSError("no route to the Hub")
        files = {file.name for file in folder_path.rglob("*") if not any(file.match(p) for p in ignore_patterns)}
        self.uploads.append({**about, "folder": folder_path.name, "files": files})


@pytest.fixture
def hub(monkeypatch) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr(huggingface_hub, "HfApi", fake)
    return fake


def test_a_run_is_pushed(write, nutshell, hub):
    """Once, when it is complete: the measured model with its card."""
    text = PUSHED.replace("push_to_hub: true,", "push_to_hub: true, hub_private_repo: true, hub_revision: trial,")
    code, _, errors = nutshell("run", write(text))
    assert code == 0 and "pushed to https://hub.example/me/pairs" in errors
    assert set(hub.created) == {("me/pairs", True, True)}
    (upload,) = hub.uploads
    assert (upload["folder"], upload["repo_id"], upload["revision"]) == ("model", "me/pairs", "trial")
    assert {"README.md", "model.safetensors", "tokenizer.json"} <= upload["files"]
    assert not {"optimizer.pt", "training_args.bin"} & upload["files"]
    assert upload["commit_message"] == "End of training"


def test_a_hub_that_refuses_stops_the_run_before_any_training(write, nutshell, hub, tmp_path):
    hub.refuses = LocalTokenNotFoundError("no token")
    code, _, errors = nutshell("run", write(PUSHED))
    assert code == 2 and "training.push_to_hub: me/pairs: no token; log in with `hf auth login`; leave" in errors
    assert not (tmp_path / "outputs/finetune/pairs/seed-13").exists()


def test_an_upload_that_fails_at_the_end_loses_nothing(write, nutshell, hub, result):
    hub.fails_to_upload = True
    file = write(PUSHED)
    code, _, errors = nutshell("run", file)
    assert code == 2 and "no route to the Hub. The run is complete; the same command tries again" in errors
    assert result()["metrics"]
    hub.fails_to_upload = False
    assert nutshell("run", file)[0] == 0 and [upload["folder"] for upload in hub.uploads] == ["model"]
    assert nutshell("run", file)[0] == 0 and len(hub.uploads) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hub_model_id: me/pairs,", "", "training.hub_model_id is missing"),
        ("me/pairs", "'me/x y'", "training.hub_model_id: expected owner/name, not 'me/x y'"),
        ("[13]", "[13, 21]", "several seeds would overwrite one another"),
        ("push_to_hub: true,", "", "nothing is pushed without training.push_to_hub: true"),
        ("push_to_hub: true,", "push_to_hub: true, hub_token: hf_abc,", "a key in a file is a leaked key"),
        (
            "push_to_hub: true,",
            "push_to_hub: true, hub_strategy: end,",
            "the model is pushed once, when it is complete",
        ),
    ],
)
def test_what_is_refused(write, nutshell, hub, old, new, message):
    code, _, errors = nutshell("run", write(PUSHED.replace(old, new)))
    assert code == 2 and message in errors and not hub.created
