"""The model card: what was asked, the figures with intervals, bands and baselines, where everything came from."""

from huggingface_hub import ModelCard

from nutshell.machine.files import read_json
from nutshell.report import card as cards
from tests.conftest import SMALL_YAML, TEXT_YAML
from tests.report import runs


def card_of(tmp_path, place: str) -> ModelCard:
    return ModelCard.load(tmp_path / "outputs" / place / "seed-13/model/README.md")


def made_of(files: dict) -> ModelCard:
    """The card of a synthetic run."""
    return cards.card(*runs.outcome(files), "text-classification", "AutoModelForSequenceClassification", own=False)


def test_the_card_of_a_classifier(write, nutshell, result, tmp_path):
    text = SMALL_YAML + "question: Does it tell | pairs apart?\nsource: a recipe\n"
    text += "reference: {accuracy: [0.6, 0.7], part: test, source: a paper | with a bar}\n"
    assert nutshell("run", write(text))[0] == 0
    card, content = card_of(tmp_path, "finetune/pairs"), result()
    assert {one.metric_type: one.metric_value for one in card.data.eval_results} == {
        name: entry["value"] for name, entry in content["metrics"].items()
    }
    low, high = content["metrics"]["accuracy"]["interval_95"]
    assert f"accuracy (95 % interval {low:.4f} to {high:.4f})" in {one.metric_name for one in card.data.eval_results}
    assert card.data.pipeline_tag == "text-classification" and card.data.base_model is None
    for words in (
        "Does it tell | pairs apart?",
        "0.6 to 0.7",
        "The published band is of the test part: a paper | with a bar.",
        content["command"],
        f"Commit `{content['provenance']['commit']}",
        "max_steps: 2",
        f"{content['evaluated_on']['count']} examples of the test part",
    ):
        assert words in card.text, words
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()  # huggingface_hub reads back what it wrote


def test_the_card_says_what_a_figure_is_worth():
    """The majority's figures are next to the model's, and one that is no better is called so."""
    text = made_of(runs.classified(right=21)).text
    assert "| 0.5000 (always answering not_equivalent) |" in text
    assert "In accuracy the model is no better than always answering not_equivalent." in text
    assert "no better than" not in made_of(runs.classified(right=40)).text


def test_the_card_says_that_one_answer_was_given():
    files = runs.classified()
    files["metrics.json"]["notes"] = ["the model gave one answer only, equivalent"]
    assert "The model gave one answer only, equivalent." in made_of(files).text


def test_a_band_of_another_part_is_not_next_to_the_figure():
    assert "| 0.84 to 0.88 |" in made_of(runs.classified()).text
    text = made_of(runs.classified(band_part="validation")).text
    assert "0.84 to 0.88" not in text and "of the validation part" not in text


def test_the_card_names_data_and_base_model_on_the_hub():
    files = runs.classified()
    revision = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
    files["metrics.json"]["data"] |= {
        "source": f"Hub nyu-mll/glue@{revision}",
        "repository": "nyu-mll/glue",
        "config": "mrpc",
        "revision": revision,
    }
    card = made_of(files)
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2" and card.data.datasets == ["nyu-mll/glue"]
    first = card.data.eval_results[0]
    assert (first.dataset_type, first.dataset_config, first.dataset_split) == ("nyu-mll/glue", "mrpc", "test")
    assert first.dataset_revision == revision


def test_the_name_of_a_data_set_claims_no_origin():
    """Rows from a local folder are not the Hub's, whatever the experiment calls them."""
    first = made_of(runs.classified()).data.eval_results[0]
    assert (first.dataset_type, first.dataset_name, first.dataset_config) == ("local", "embedded in nutshell", None)


def test_the_card_of_a_language_model(write, nutshell, tmp_path):
    assert nutshell("run", write(TEXT_YAML, "language_model/stories.yaml"))[0] == 0
    card = card_of(tmp_path, "language_model/stories")
    assert card.data.pipeline_tag == "text-generation" and "AutoModelForCausalLM" in card.text
    names = {"bits_per_byte", "perplexity", "word_perplexity", "byte_perplexity"}
    assert {one.metric_type for one in card.data.eval_results} == names
    assert "gzip -9" in card.text and read_json(tmp_path / "outputs/language_model/stories/summary.json")["baseline"]
