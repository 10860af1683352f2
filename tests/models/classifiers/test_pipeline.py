"""What a run saves answers in transformers' pipeline as was measured, for every architecture."""

import json
import subprocess
import sys

import numpy
import pytest

from nutshell.bits.figures import units
from nutshell.data import labelled
from nutshell.data.datasets import LabelledData
from nutshell.models.classifiers.encoders import ENCODERS
from tests.conftest import PAIRS_YAML

PIPELINE = """
import json, sys
from transformers import pipeline
from transformers.utils import logging
logging.disable_progress_bar()
for line in sys.stdin:
    folder, rows, labels = json.loads(line)
    answer = pipeline("text-classification", model=folder, top_k=None)
    texts = [dict(zip(("text", "text_pair"), row)) if len(row) == 2 else row[0] for row in rows]
    scores = [{entry["label"]: entry["score"] for entry in entries} for entries in answer(texts, truncation=True)]
    print(json.dumps([[row[label] for label in labels] for row in scores]))
"""
DATA = {
    "pairs": "{name: sample_pairs, path: SMALL, max_tokens: 40}",
    "texts": "{name: sample_reviews, max_tokens: 40, truncate: tail, train_examples: 16}",
}


@pytest.mark.parametrize("kind", ["pairs", pytest.param("texts", marks=pytest.mark.slow)])
def test_every_saved_model_in_a_fresh_process(kind, checkpoints, write, nutshell, small, tmp_path):
    """Both sides of a pair, and texts that are cut, against the run's own record."""
    words = DATA[kind]
    data = (
        LabelledData(name="sample_pairs", path=str(small)) if kind == "pairs" else LabelledData(name="sample_reviews")
    )
    rows, requests, recorded = labelled.load(data).test.texts, [], {}
    for name in ENCODERS:
        text = PAIRS_YAML.replace("TINY", str(checkpoints[name])).replace(PAIRS_YAML.split("\n")[3], f"data: {words}")
        code, _, errors = nutshell("run", write(text, f"{kind}/{name}.yaml"), "training.learning_rate=0.01")
        assert code == 0, errors
        folder = tmp_path / "outputs" / kind / name / "seed-13"
        recorded[name] = numpy.array(units.read(folder).columns["probabilities"])
        requests.append(json.dumps([str(folder / "model"), rows, data.known.layout.labels]))
    command = [sys.executable, "-c", PIPELINE]
    done = subprocess.run(command, input="\n".join(requests), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(f"\n{kind}: {len(rows)} examples, largest difference of a probability, spread of the probabilities")
    for name, line in zip(ENCODERS, done.stdout.splitlines(), strict=True):
        answers = numpy.array(json.loads(line))
        difference = numpy.abs(answers - recorded[name]).max()
        print(f"  {name:12} {difference:.1e}  {recorded[name].std():.2f}")
        assert difference < 1e-6 and recorded[name][:, 0].std() > 1e-3
