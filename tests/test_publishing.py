"""The model card, and pushing to the Hub as Trainer does; the Hub itself is played by a fake."""

from concurrent.futures import Future

import pytest
from huggingface_hub import ModelCard, RepoUrl
from huggingface_hub.errors import LocalTokenNotFoundError

from nutshell.report import card as publishing
from tests.conftest import SMALL_YAML, TEXT_YAML

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

    def upload_folder(self, *, folder_path, ignore_patterns=(), run_as_future=False, **about):
        if self.fails_to_upload:
            raise OSError("no route to the Hub")
        files = {file.name for file in folder_path.rglob("*") if not any(file.match(p) for p in ignore_patterns)}
        self.uploads.append({**about, "folder": folder_path.name, "files": files})
        done: Future = Future()
        done.set_result(None)
        return done if run_as_future else None


@pytest.fixture
def hub(monkeypatch) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr(publishing, "HfApi", fake)
    return fake


def card_of(tmp_path, place: str) -> ModelCard:
    return ModelCard.load(tmp_path / "outputs" / place / "seed-13/model/README.md")


def test_the_card_of_a_classifier(write, nutshell, result, tmp_path):
    text = SMALL_YAML + "reference: {accuracy: [0.6, 0.7], source: a paper | with a bar}\n"
    assert nutshell("run", write(text))[0] == 0
    card = card_of(tmp_path, "finetune/pairs")
    metrics = result()["metrics"]
    assert {found.metric_type: found.metric_value for found in card.data.eval_results} == {
        name: entry["value"] for name, entry in metrics.items()
    }
    low, high = metrics["accuracy"]["interval_95"]
    assert f"accuracy (95 % interval {low:.4f} to {high:.4f})" in {one.metric_name for one in card.data.eval_results}
    assert card.data.pipeline_tag == "text-classification" and card.data.base_model is None
    assert all(
        word in card.text for word in ("0.6 to 0.7", "nutshell run", result()["provenance"]["commit"], "max_steps: 2")
    )
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()  # huggingface_hub reads back what it wrote


def test_the_card_names_data_and_base_model_on_the_hub(write, nutshell, result):
    assert nutshell("run", write(SMALL_YAML))[0] == 0
    found = result()
    found["experiment"]["model"]["name"] = "minilm"
    found["experiment"]["data"] = {"name": "mrpc", "max_tokens": 128}
    found["data"]["source"] = "Hub nyu-mll/glue@bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
    card = publishing.card(found, "finetune/pairs", "nutshell run it")
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2" and card.data.datasets == ["nyu-mll/glue"]
    first = card.data.eval_results[0]
    assert (first.dataset_type, first.dataset_config, first.dataset_split) == ("nyu-mll/glue", "mrpc", "test")
    assert first.dataset_revision == "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


def test_the_card_of_a_language_model(write, nutshell, tmp_path):
    assert nutshell("run", write(TEXT_YAML, "language_model/stories.yaml"))[0] == 0
    card = card_of(tmp_path, "language_model/stories")
    assert card.data.pipeline_tag == "text-generation" and "AutoModelForCausalLM" in card.text
    assert {found.metric_type for found in card.data.eval_results} == {"perplexity", "bits_per_byte"}


def test_a_run_is_pushed(write, nutshell, hub):
    """Each checkpoint's model as it is saved, without what only resumes a training; the measured one with its card."""
    code, _, said = nutshell("run", write(PUSHED))
    assert code == 0 and "pushed to https://hub.example/me/pairs" in said
    assert hub.created[0] == ("me/pairs", None, True)
    assert [upload["folder"] for upload in hub.uploads] == ["checkpoint-1", "checkpoint-2", "model"]
    assert all(upload["repo_id"] == "me/pairs" for upload in hub.uploads)
    first, _, last = hub.uploads
    assert "model.safetensors" in first["files"] and "tokenizer.json" in first["files"]
    assert not {"optimizer.pt", "trainer_state.json", "training_args.bin", "checkpoint.json"} & first["files"]
    assert {"README.md", "model.safetensors"} <= last["files"] and last["commit_message"] == "End of training"


@pytest.mark.parametrize(
    ("strategy", "places"),
    [
        ("end", [None]),
        ("checkpoint", [None, "last-checkpoint", None, "last-checkpoint", None]),
        ("all_checkpoints", [None, "checkpoint-1", None, "checkpoint-2", None]),
    ],
)
def test_strategies(write, nutshell, hub, strategy, places):
    text = PUSHED.replace("push_to_hub: true,", f"push_to_hub: true, hub_strategy: {strategy}, hub_revision: trial,")
    assert nutshell("run", write(text))[0] == 0
    assert [upload.get("path_in_repo") for upload in hub.uploads] == places
    assert all(upload["revision"] == "trial" for upload in hub.uploads)
    whole = [upload for upload in hub.uploads if upload.get("path_in_repo")]
    assert all("optimizer.pt" in upload["files"] for upload in whole)


def test_a_hub_that_refuses_is_said_before_any_training(write, nutshell, hub, tmp_path):
    hub.refuses = LocalTokenNotFoundError("no token")
    code, _, said = nutshell("run", write(PUSHED))
    assert code == 2 and "training.push_to_hub: me/pairs: no token; log in with `hf auth login`; leave" in said
    assert not (tmp_path / "outputs/finetune/pairs/seed-13").exists()


def test_an_upload_that_fails_at_the_end_loses_nothing(write, nutshell, hub, result):
    hub.fails_to_upload = True
    file = write(PUSHED.replace("push_to_hub: true,", "push_to_hub: true, hub_strategy: end,"))
    code, _, said = nutshell("run", file)
    assert code == 2 and "no route to the Hub. The run is complete; the same command tries again" in said
    assert result()["metrics"]
    hub.fails_to_upload = False
    assert nutshell("run", file)[0] == 0 and [upload["folder"] for upload in hub.uploads] == ["model"]
    assert nutshell("run", file)[0] == 0 and len(hub.uploads) == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("hub_model_id: me/pairs,", "", "training.hub_model_id is missing"),
        ("me/pairs", "'me/x y'", "training.hub_model_id: expected owner/name, not 'me/x y'"),
        ("[13]", "[13, 21]", "several seeds would overwrite one another"),
        ("push_to_hub: true,", "", "nothing is pushed without training.push_to_hub: true"),
        ("push_to_hub: true,", "push_to_hub: true, hub_token: hf_abc,", "a key in a file is a leaked key"),
        ("push_to_hub: true,", "push_to_hub: true, hub_strategy: never,", "hub_strategy"),
    ],
)
def test_what_is_refused(write, nutshell, hub, old, new, said):
    code, _, printed = nutshell("run", write(PUSHED.replace(old, new)))
    assert code == 2 and said in printed and not hub.created
