"""What single measurements come to: padding, operations, steady rates, medians, ratios, a results file's content."""

import statistics
from collections.abc import Sequence
from typing import Any

UNITS = {
    **dict.fromkeys(("mrpc_train", "mrpc_eval", "imdb_train_512", "growth", "accuracy"), "examples_per_second"),
    "predict": "examples_per_second",
    **dict.fromkeys(("gpt2_train", "generation"), "tokens_per_second"),
    "csv": "rows_per_second",
}
# Stock and nutshell take turns.
PAIRED = ("mrpc_train", "mrpc_eval", "imdb_train_512", "gpt2_train", "generation", "predict", "csv")
WORKLOADS = ("matmul", *PAIRED, "growth", "losses", "fsdp")
Batch = tuple[float, int, int, int]  # when it was collated, examples, tokens without padding, positions with it


def flop_per_token(parameters: int, layers: int, hidden: int, mean_tokens: float) -> float:
    """Floating-point operations of the model, forward and backward: 6 parameters + 12 layers hidden mean_tokens.

    Args:
        parameters: Those that multiply every token, so not the embeddings.
        layers, hidden: Of the model.
        mean_tokens: The examples' mean length without padding: what is computed on padding is no use to the model.

    Source: Chowdhery et al. 2022, "PaLM", appendix B.
    """
    return 6 * parameters + 12 * layers * hidden * mean_tokens


def padding_share(tokens: int, positions: int) -> float | None:
    """The share of the positions that were computed for nothing; None if none was counted."""
    return 1 - tokens / positions if positions else None


def generation_positions(lengths: Sequence[int], batch_size: int, new_tokens: int) -> tuple[int, int]:
    """Tokens, and positions with the padding, of prompts that are continued longest first in batches."""
    ordered = sorted(lengths, reverse=True)
    batches = [ordered[first : first + batch_size] for first in range(0, len(ordered), batch_size)]
    every_new_token = len(lengths) * new_tokens
    return sum(lengths) + every_new_token, sum(max(batch) * len(batch) for batch in batches) + every_new_token


def steady(batches: Sequence[Batch]) -> dict[str, float]:
    """Examples and tokens a second without the first quarter of the batches (warming up, compiling); {} if too few.

    accelerate fetches one batch in advance: one is collated just before its predecessor is computed.
    """
    if len(batches) < 8:
        return {}
    first = len(batches) // 4
    seconds, computed = batches[-1][0] - batches[first][0], batches[first - 1 : -2]
    return {
        "steady_examples_per_second": sum(batch[1] for batch in computed) / seconds,
        "steady_tokens_per_second": sum(batch[2] for batch in computed) / seconds,
    }


def figures(batches: Sequence[Batch], record: dict[str, Any]) -> dict[str, Any]:
    """Counts, rates and padding of one phase.

    Args:
        batches: What the collator handed out.
        record: Its `seconds`, and whatever else is recorded of it, which then replaces what the batches say.
    """
    examples, tokens, positions = (sum(batch[column] for batch in batches) for column in (1, 2, 3))
    seconds = record["seconds"]
    counted = {"seconds": seconds, "examples": examples, "tokens": tokens}
    counted |= {"examples_per_second": examples / seconds, "tokens_per_second": tokens / seconds}
    kept = {key: value for key, value in record.items() if key in counted and value is not None}
    return {**counted, **kept, "padding_share": padding_share(tokens, positions), "mean_tokens": tokens / examples}


def summary(workload: str, measurements: list[dict[str, Any]]) -> dict[str, Any]:
    """The measurements of a workload; with stock among them, each side's medians and nutshell's ratios to stock."""
    good = [measured for measured in measurements if "failed" not in measured]
    total: dict[str, Any] = {"unit": UNITS.get(workload), "measurements": measurements}
    sides = {side: [m for m in good if m["side"] == side] for side in dict.fromkeys(m["side"] for m in good)}
    if workload == "matmul" and good:
        total["flop_per_second"] = good[0]["flop_per_second"]
    if workload == "losses" and len(sides) == 2:
        total |= differences(*(sides[side][0]["losses"] for side in ("nutshell_fp32", "nutshell")))
    if workload == "accuracy":
        total["sides"] = {side: accuracy(rows) for side, rows in sides.items()}
    if workload in PAIRED:
        total["sides"] = {side: medians(rows) for side, rows in sides.items()}
        for name, unit in (("ratios", UNITS[workload]), ("steady_ratios", f"steady_{UNITS[workload]}")):
            others = [side for side in sides if side != "stock"]
            total[name] = {side: ratio for side in others if (ratio := paired_ratio(good, side, unit))}
    return total


def medians(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of every number that all rows have, and their precision."""
    keys = [
        key for key, value in rows[0].items() if isinstance(value, int | float) and key not in ("alternation", "seed")
    ]
    kept = [key for key in keys if all(row.get(key) is not None for row in rows)]
    return {"precision": rows[0]["precision"]} | {key: statistics.median(row[key] for row in rows) for key in kept}


def paired_ratio(rows: list[dict[str, Any]], side: str, unit: str) -> dict[str, float] | None:
    """The median, lowest and highest ratio of a side's figure to stock's in the same alternation; None if none is."""
    stock, other = ({row["alternation"]: row.get(unit) for row in rows if row["side"] == s} for s in ("stock", side))
    ratios = [other[turn] / stock[turn] for turn in stock if stock[turn] and other.get(turn)]
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)} if ratios else None


def differences(full: list[float], half: list[float]) -> dict[str, Any]:
    """Losses in fp32 and bf16, step by step, and how far they lie apart."""
    apart = [abs(one - other) for one, other in zip(full, half, strict=True)]
    curves = {"losses": {"fp32": full, "bf16": half}}
    return curves | {"largest_difference": max(apart), "mean_difference": statistics.fmean(apart)}


def accuracy(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation (n - 1) of the accuracy over seeds."""
    by_seed = {str(row["seed"]): row["accuracy"] for row in rows}
    spread = statistics.stdev(by_seed.values()) if len(by_seed) > 1 else None
    return {"mean": statistics.fmean(by_seed.values()), "standard_deviation": spread, "by_seed": by_seed}


def merged(stored: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
    """A results file's content with fresh workloads in the place of its own.

    Each training's share of the matrix-product ceiling of its precision (`mfu`, model FLOPs utilization) is computed
    again.
    """
    workloads = {**stored.get("workloads", {}), **fresh["workloads"]}
    ceiling = workloads.get("matmul", {}).get("flop_per_second", {})
    for workload in workloads.values():
        for side in workload.get("sides", {}).values():
            if "flop_per_second" in side and (most := ceiling.get(side["precision"])):
                side["mfu"] = side["flop_per_second"] / most
    ordered = {name: workloads[name] for name in (*WORKLOADS, "accuracy") if name in workloads}
    return {**fresh, "workloads": ordered}
