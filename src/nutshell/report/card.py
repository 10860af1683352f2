"""The model card of a run: its question, its figures, where everything came from, how to reproduce it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO

from nutshell.bits.figures.metrics import Figure
from nutshell.machine.errors import plural
from nutshell.machine.launch import precision
from nutshell.models.embedded.registry import repository
from nutshell.report.results.result import Result
from nutshell.report.results.summary import Summary

BODY = """\
---
{{ card_data }}
---

# {{ name }}

{% if question -%}
{{ question }}

{% endif -%}
{{ model }}, {{ "{:,}".format(parameters) }} parameters: nutshell's task `{{ task }}`, seed {{ seed }}.

## Figures

Of {{ evaluated_on }}.

| metric | value | 95 % interval | unit | better | published band | baseline |
| --- | --- | --- | --- | --- | --- | --- |
{% for row in rows -%}
| {{ row | join(" | ") }} |
{% endfor %}
{%- for note in notes %}
{{ note }}
{% endfor %}
{%- if source %}
The published band is of the {{ part }} part: {{ source }}.
{% endif %}
## Use

```python
{% if own -%}
import nutshell  # makes the architecture known to transformers
{% endif -%}
from transformers import {{ auto }}, AutoTokenizer

model, tokenizer = {{ auto }}.from_pretrained("."), AutoTokenizer.from_pretrained(".")
```

## Data

{{ data }}

## Reproduce

Commit `{{ commit }}`, {{ versions }}; {{ device }}, {{ precision }}, {{ processes }}, {{ seconds }} s.

```sh
{{ command }}
```

```yaml
{{ recipe }}
```
"""


def card(result: Result, summary: Summary, pipeline: str, auto_class: str, own: bool) -> ModelCard:
    """The model card of one seed.

    Args:
        result: Of that seed.
        summary: Of that seed alone: it knows band and baseline.
        pipeline: The Hub's pipeline tag.
        auto_class: Transformers' class that loads the model.
        own: Whether transformers knows the architecture only after `import nutshell`.
    """
    experiment, provenance, data = result.experiment, result.provenance, result.data
    model, reference = experiment.get("model") or {}, experiment.get("reference") or {}
    base = model["name"] if model.get("revision") else repository(model.get("name"))
    name = f"{summary.experiment.replace('/', '-')}-seed-{experiment['seed']}"
    counts = ", ".join(f"{count:,} {part}" for part, count in data.examples.items())
    return ModelCard.from_template(
        ModelCardData(
            model_name=name,
            library_name="transformers",
            pipeline_tag=pipeline,
            base_model=base,
            datasets=[data.repository] if data.repository else None,
            metrics=list(result.metrics),
            tags=["nutshell"],
            eval_results=[  # the Hub knows no figure without a value
                _evaluation(result, name, pipeline)
                for name, figure in result.metrics.items()
                if figure.value is not None
            ],
        ),
        template_str=BODY,
        name=name,
        question=experiment.get("question"),
        model=_origin(result, base),
        parameters=result.parameters.all,
        task=experiment["task"],
        seed=experiment["seed"],
        evaluated_on=result.evaluated_on.text,
        rows=[_row(metric, result, summary) for metric in result.metrics],
        notes=[f"{note[0].upper()}{note[1:]}." for note in _notes(result, summary)],
        source=reference.get("source") if any(map(summary.band, result.metrics)) else None,
        part=reference.get("part"),
        own=own,
        auto=auto_class,
        data=f"{data.source}: {counts}.",
        commit=f"{provenance.commit}{' with changes' * bool(provenance.dirty)}",
        versions=", ".join(f"{name} {version}" for name, version in provenance.packages.items()),
        device=provenance.device,
        precision=precision(provenance.mixed_precision),
        processes=plural(provenance.processes, "process"),
        seconds=round(provenance.wall_seconds),
        command=result.command,
        recipe=_yaml(experiment),
    )


def _origin(result: Result, base: str | None) -> str:
    """What the weights are: trained from the start, fine-tuned, or only measured."""
    model = result.experiment.get("model") or {}
    if not model.get("name"):
        kind = (model.get("config") or {}).get("model_type", "model")
        return f"A {kind}{' trained from the start' * bool(result.training)}"
    # A local folder's name says nothing on another machine.
    name = base or f"a local checkpoint, {Path(model['name']).name}"
    return f"Fine-tuned from {name}" if result.training else f"The weights of {name}, measured as they are"


def _evaluation(result: Result, metric: str, pipeline: str) -> EvalResult:
    """A figure in the Hub's form; a data set of the Hub is named only if its rows came from there."""
    data, figure = result.data, result.metrics[metric]
    interval = _interval(figure)
    return EvalResult(
        task_type=pipeline,
        dataset_type=data.repository or "local",
        dataset_name=" ".join(filter(None, [data.repository, data.config])) or data.source,
        dataset_config=data.config or None,
        dataset_split=result.evaluated_on.part,
        dataset_revision=data.revision,
        metric_type=metric,
        metric_value=figure.value,
        metric_name=f"{metric} (95 % interval {interval})" if interval else metric,
    )


def _row(metric: str, result: Result, summary: Summary) -> tuple[str, ...]:
    figure, band = result.metrics[metric], summary.band(metric)
    baseline = ", ".join(f"{value:.4f} ({name})" for name, value in result.baseline.get(metric, {}).items())
    return (
        metric,
        "" if figure.value is None else f"{figure.value:.4f}",
        _interval(figure),
        figure.unit,
        {True: "higher", False: "lower", None: ""}[figure.higher_is_better],
        "{} to {}".format(*band) if band else "",
        baseline,
    )


def _notes(result: Result, summary: Summary) -> list[str]:
    standings = {name: summary.standing(name) for name in result.metrics}
    return result.notes + [
        f"in {name} the model is {standing} {summary.best_baseline(name)[0]}"
        for name, standing in standings.items()
        if standing in ("no better than", "worse than")
    ]


def _interval(figure: Figure) -> str:
    return "{:.4f} to {:.4f}".format(*figure.interval_95) if figure.interval_95 else ""


def _yaml(tree: Mapping[str, Any]) -> str:
    yaml, text = YAML(), StringIO()
    yaml.dump(dict(tree), text)
    return text.getvalue().rstrip()
