"""The keys an experiment's `training:` block may have: TrainingArguments' own fields, types and defaults.

They are read from TrainingArguments' source, not by importing it: the import pulls in torch and takes two
seconds, and an experiment file is checked before anything is loaded.
"""

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

HARDWARE = (
    "precision and hardware are not part of the question: set them in accelerate_config.yaml or as flags of "
    "`accelerate launch` (such as --mixed_precision bf16)"
)
_REFUSED = {
    HARDWARE: (
        "mixed_precision bf16 fp16 bf16_full_eval fp16_full_eval fp16_backend fp16_opt_level half_precision_backend "
        "tf32 use_cpu no_cuda use_mps_device local_rank "
        "accelerator_config parallelism_config ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers "
        "ddp_static_graph ddp_backend ddp_timeout fsdp fsdp_config deepspeed torch_compile torch_compile_backend "
        "torch_compile_mode use_liger_kernel liger_kernel_config auto_find_batch_size torch_empty_cache_steps"
    ),
    "state `seeds:` at the top of the file, or --seeds on the command line": ("seed data_seed"),
    "the results' place follows from the file's own path; --output moves the root": ("output_dir run_name"),
    "--force discards what the seeds' folders hold": ("overwrite_output_dir"),
    "the runner sees to it that an interrupted run continues exactly as if it had not been interrupted": (
        "save_only_model ignore_data_skip resume_from_checkpoint restore_callback_states_from_checkpoint"
    ),
    "tracking is not part of the question: Weights & Biases is on unless --no-track or WANDB_MODE=disabled": (
        "report_to project trackio_space_id trackio_bucket_id trackio_static_space_id"
    ),
    "a key in a file is a leaked key: log in with `hf auth login`, or set HF_TOKEN": ("hub_token"),
    "the model is pushed once, when it is complete": ("hub_strategy hub_always_push"),
    "nutshell settles it, so that every figure means the same": (
        "do_train do_eval do_predict disable_tqdm log_level log_level_replica log_on_each_node save_on_each_node "
        "remove_unused_columns label_names length_column_name include_for_metrics batch_eval_metrics "
        "eval_do_concat_batches eval_use_gather_object prediction_loss_only skip_memory_metrics debug use_cache "
        "average_tokens_across_devices include_num_input_tokens_seen enable_jit_checkpoint dataloader_drop_last "
        "logging_nan_inf_filter"
    ),
}
REFUSED = {key: reason for reason, keys in _REFUSED.items() for key in keys.split()}
_RANGES = (
    ({"gt": 0}, "learning_rate num_train_epochs adam_epsilon logging_steps eval_steps save_steps"),
    (
        {"ge": 1},
        "max_steps per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps save_total_limit "
        "eval_accumulation_steps dataloader_prefetch_factor",
    ),
    ({"ge": 0}, "warmup_steps weight_decay max_grad_norm eval_delay neftune_noise_alpha dataloader_num_workers"),
    ({"ge": 0, "lt": 1}, "adam_beta1 adam_beta2 label_smoothing_factor"),
)
RANGES = {key: limits for limits, keys in _RANGES for key in keys.split()}
# Plain strings in TrainingArguments, whose values it checks itself, but only after torch is imported.
CHOICES = {"train_sampling_strategy": ("random", "sequential", "group_by_length")}


def _classes(*files: str) -> dict[str, ast.ClassDef]:
    root = Path(importlib.util.find_spec("transformers").submodule_search_locations[0])
    trees = [ast.parse((root / file).read_text(encoding="utf-8")) for file in files]
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def _assigned(node: ast.ClassDef) -> dict[str, Any]:
    """The constants that a class body assigns by name; a later one wins, as the pinned torch makes it win."""
    constants = {}
    for statement in ast.walk(node):
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            names = [name.id for name in statement.targets if isinstance(name, ast.Name)]
            constants |= dict.fromkeys(names, statement.value.value)
    return constants


@cache
def _fields() -> dict[str, tuple[Any, Any]]:
    """Each field of TrainingArguments with its type and its default."""
    classes = _classes("trainer_utils.py", "training_args.py")
    names: dict[str, Any] = {"Any": Any, "Literal": Literal, "str": str, "dict": dict, "list": list}
    names |= {"int": int, "float": float, "bool": bool}
    for name, node in classes.items():
        if any(ast.unparse(base) == "ExplicitEnum" for base in node.bases):
            names[name] = Literal[tuple(v for k, v in _assigned(node).items() if k.isupper())]
    constants = _assigned(classes["TrainingArguments"])
    fields = {}
    for node in classes["TrainingArguments"].body:
        if not isinstance(node, ast.AnnAssign) or node.target.id in REFUSED:
            continue
        parts = [part.strip() for part in ast.unparse(node.annotation).split("|")]
        if len([part for part in parts if part != "None"]) > 1 and "str" in parts:
            parts.remove("str")  # `SchedulerType | str`, `dict | str`: the string is the command line's spelling
        if "bool" in parts and "Literal[False]" in parts:
            parts.remove("Literal[False]")
        default = next((k.value for k in node.value.keywords if k.arg == "default"), ast.Constant(None))
        value = constants[default.id] if isinstance(default, ast.Name) else ast.literal_eval(default)
        kind = eval(" | ".join(parts), {"__builtins__": {}}, names)  # our own pinned package's annotations
        if node.target.id in CHOICES:
            kind = Literal[CHOICES[node.target.id]]
        fields[node.target.id] = (kind, value)
    return fields


def defaults() -> dict[str, Any]:
    """What each `training:` key falls back to when an experiment leaves it out."""
    return {name: value for name, (_, value) in _fields().items()}


@cache
def schema(untrained: bool = False) -> type[BaseModel]:
    """A strict pydantic model of the `training:` block: every allowed key, its type and its range.

    Args:
        untrained: Whether num_train_epochs may be 0.
    """
    fields = {}
    for name, (kind, value) in _fields().items():
        limits = {"ge": 0} if untrained and name == "num_train_epochs" else RANGES.get(name)
        fields[name] = (Annotated[kind, Field(**limits)] if limits else kind, Field(default=value))
    strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    block = create_model("Training", __config__=strict, **fields)
    block.refused = REFUSED
    return block
