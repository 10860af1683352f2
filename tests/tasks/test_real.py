"""Real weights and, where NUTSHELL_DATA names them, real data."""

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from nutshell.data import labelled
from nutshell.experiment.load import load
from nutshell.report.results.summary import Summary
from nutshell.tasks.task import tasks
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

EXPERIMENTS = ROOT / "experiments"


def stored(name: str) -> Summary:
    return Summary.model_validate_json((EXPERIMENTS / "results" / f"{name}.json").read_text(encoding="utf-8"))


def test_quickstart_beats_the_majority_class(nutshell, result):
    assert nutshell("run", EXPERIMENTS / "quickstart" / "pairs.yaml")[0] == 0
    outcome = result("quickstart/pairs")
    majority = max(outcome["baseline"]["accuracy"].values())
    counts = outcome["matrix"]["counts"]
    assert majority in [sum(row) / sum(map(sum, counts)) for row in counts]
    assert outcome["metrics"]["accuracy"]["value"] >= majority + 0.15


def test_one_epoch_of_mrpc(real_data, nutshell, result, monkeypatch):
    monkeypatch.setenv("NUTSHELL_DATA", str(real_data))
    words = ["training.num_train_epochs=1", "--seed", 13]
    assert nutshell("run", EXPERIMENTS / "finetune" / "mrpc_minilm.yaml", *words)[0] == 0
    outcome = result("finetune/mrpc_minilm")
    assert outcome["data"]["examples"] == {"train": 3668, "validation": 408}
    assert outcome["metrics"]["accuracy"]["value"] > 279 / 408  # the majority class


def test_imdb_is_read_whole(real_data, monkeypatch):
    monkeypatch.setenv("NUTSHELL_DATA", str(real_data))
    parts = labelled.load(load(EXPERIMENTS / "finetune" / "imdb.yaml", [], tasks()).data)
    assert len(parts.train) == len(parts.test) == 25000 and sum(parts.test.labels) == 12500
    assert parts.notes == {"shared with the training part": 123}


def test_the_stored_imdb_figure_beats_bags_of_words(real_data, monkeypatch):
    """TF-IDF of words and word pairs with logistic regression, scikit-learn's defaults, on the same reviews."""
    monkeypatch.setenv("NUTSHELL_DATA", str(real_data))
    parts = labelled.load(load(EXPERIMENTS / "finetune" / "imdb_minilm.yaml", [], tasks()).data)
    baseline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
    baseline.fit([text for (text,) in parts.train.texts], parts.train.labels)
    score = baseline.score([text for (text,) in parts.test.texts], parts.test.labels)
    assert stored("finetune/imdb_minilm").metrics["accuracy"].mean > score
