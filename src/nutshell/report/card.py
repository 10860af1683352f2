"""What is published of a run: the model card beside its weights, and both on the Hub if the experiment says so."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData
from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from nutshell.data.datasets import DATASETS, TEXTS
from nutshell.machine.errors import UserError
from nutshell.machine.files import first_line, write_json
from nutshell.machine.launch import precision
from nutshell.models.find import MINILM_REPOSITORY

logger = logging.getLogger("nutshell")

PIPELINES = {"classify": "text-classification", "language_model": "text-generation"}
# What resumes a training and is no part of a model.
STATE = ["optimizer*", "scheduler.pt", "rng_state*", "trainer_state.json", "training_args.bin", "checkpoint.json"]
BODY = """\
---
{{ card_data }}
---

# {{ name }}

{{ model }}, {{ "{:,}".format(parameters) }} parameters: nutshell's task `{{ task }}`, seed {{ seed }}.

## Figures

Of {{ evaluated_on }}.

| metric | value | 95 % interval | unit | better | published band |
| --- | --- | --- | --- | --- | --- |
{% for row in rows -%}
| {{ row | join(" | ") }} |
{% endfor %}
{%- if source %}
Band: {{ source }}.
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


def card(results: dict[str, Any], place: str, command: str) -> ModelCard:
    """The model card of one seed.

    Args:
        results: The content of metrics.json.
        place: `<chapter>/<name>`.
        command: What makes the same again.
    """
    asked, provenance = results["experiment"], results["provenance"]
    task, data, model = asked["task"], asked["data"], asked["model"]
    reference = asked.get("reference") or {}
    base = MINILM_REPOSITORY if model["name"] == "minilm" else model["name"] if model.get("revision") else None
    known = (DATASETS if task == "classify" else TEXTS)[data["name"]]
    name = f"{place.replace('/', '-')}-seed-{asked['seed']}"
    found = [
        EvalResult(
            task_type=PIPELINES[task],
            dataset_type=known.repository or data["name"],
            dataset_name=data["name"],
            dataset_config=known.folder,
            dataset_split=results["evaluated_on"]["part"],
            dataset_revision=results["data"]["source"].partition("@")[2] or None,  # of a local copy there is none
            metric_type=metric,
            metric_value=entry["value"],
            metric_name=f"{metric} ({_interval(entry)})" if entry["interval_95"] else metric,
        )
        for metric, entry in results["metrics"].items()
    ]
    rows = [
        (
            metric,
            f"{entry['value']:.4f}",
            _interval(entry).removeprefix("95 % interval "),
            entry["unit"],
            {True: "higher", False: "lower", None: ""}[entry["higher_is_better"]],
            "{} to {}".format(*band) if (band := reference.get(metric)) else "",
        )
        for metric, entry in results["metrics"].items()
    ]
    architecture = (model.get("config") or {}).get("model_type")
    counts = ", ".join(f"{count:,} {part}" for part, count in results["data"]["examples"].items())
    return ModelCard.from_template(
        ModelCardData(
            model_name=name,
            library_name="transformers",
            pipeline_tag=PIPELINES[task],
            base_model=base,
            datasets=[known.repository] if known.repository else None,
            metrics=list(results["metrics"]),
            tags=["nutshell"],
            eval_results=found,
        ),
        template_str=BODY,
        name=name,
        model=f"Fine-tuned from {base or model['name']}"
        if model["name"]
        else f"A {architecture} trained from the start",
        parameters=results["parameters"]["all"],
        task=task,
        seed=asked["seed"],
        evaluated_on=results["evaluated_on"]["text"],
        rows=rows,
        source=reference.get("source"),
        own=architecture in ("scratch", "lstm"),
        auto={"classify": "AutoModelForSequenceClassification"}.get(task, "AutoModelForCausalLM"),
        data=f"{data['name']}, {results['data']['source']}: {counts}.",
        commit=f"{provenance['commit']}{' with changes' * bool(provenance['dirty'])}",
        versions=", ".join(f"{name} {version}" for name, version in provenance["packages"].items()),
        device=provenance["device"],
        precision=precision(provenance["mixed_precision"]),
        processes=f"{provenance['processes']} process{'es' * (provenance['processes'] > 1)}",
        seconds=round(provenance["wall_seconds"]),
        command=command,
        recipe=_yaml(asked),
    )


def _interval(entry: dict[str, Any]) -> str:
    return "95 % interval {:.4f} to {:.4f}".format(*entry["interval_95"]) if entry["interval_95"] else ""


def _yaml(tree: dict[str, Any]) -> str:
    yaml, text = YAML(), StringIO()
    yaml.dump(tree, text)
    return text.getvalue().rstrip()


def open_repository(name: str, private: bool | None, instead: str = "; leave push_to_hub out to run without") -> str:
    """Makes a repository unless it is there; its whole name, `owner/name`.

    Args:
        name: `hub_model_id`.
        private: Whether a new one is.
        instead: What can be done if that fails, for the message.

    Raises:
        UserError: If the Hub refuses, or cannot be reached.
    """
    return _asked(name, lambda: HfApi().create_repo(name, private=private, exist_ok=True), instead).repo_id


def push_checkpoint(checkpoint: Path, repository: str, args: TrainingArguments) -> list[Future]:
    """Begins to upload a checkpoint, as `hub_strategy` says.

    Returns:
        The uploads under way.
    """
    if args.hub_strategy == HubStrategy.END:
        return []
    step = checkpoint.name.removeprefix("checkpoint-")
    about = {"repo_id": repository, "folder_path": checkpoint, "revision": args.hub_revision, "run_as_future": True}
    message = f"Training in progress, step {step}"
    jobs = [HfApi().upload_folder(**about, commit_message=message, ignore_patterns=STATE)]
    if args.hub_strategy != HubStrategy.EVERY_SAVE:
        last = args.hub_strategy == HubStrategy.CHECKPOINT
        place = "last-checkpoint" if last else checkpoint.name
        jobs.append(HfApi().upload_folder(**about, commit_message=f"{message}, checkpoint", path_in_repo=place))
    return jobs


def warn_of_failures(jobs: Sequence[Future]) -> None:
    """Says which uploads of checkpoints, all at their end, have failed; the training goes on."""
    for job in jobs:
        if error := job.exception():
            logger.warning("a checkpoint was not pushed: %s", first_line(error))


def push(folder: Path, training: dict[str, Any]) -> None:
    """Uploads a complete run's model with its card, if the experiment says so and it has not been done.

    Args:
        folder: The seed's; pushed.json notes there that it was done.
        training: The experiment's block.

    Raises:
        UserError: If the Hub refuses, or cannot be reached.
    """
    if not training.get("push_to_hub") or (folder / "pushed.json").exists():
        return
    name = training["hub_model_id"]
    again = ". The run is complete; the same command tries again"
    repository = open_repository(name, training.get("hub_private_repo"), again)
    about = {"repo_id": repository, "folder_path": folder / "model", "revision": training.get("hub_revision")}
    _asked(name, lambda: HfApi().upload_folder(**about, commit_message="End of training", ignore_patterns=STATE), again)
    address = f"{HfApi().endpoint}/{repository}"
    write_json(folder / "pushed.json", {"address": address})
    logger.info("pushed to %s", address)


def _asked(name: str, request: Callable, instead: str):
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        return request()
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        OSError,
        HTTPError,
    ) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        unknown = isinstance(error, LocalTokenNotFoundError) or status in (401, 403)
        login = "; log in with `hf auth login`" * unknown
        raise UserError(f"training.push_to_hub: {name}: {first_line(error).rstrip('.')}{login}{instead}") from None
