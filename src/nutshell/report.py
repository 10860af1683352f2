"""Results of many runs -> tables that people read."""


def cells(summary: dict) -> list[tuple[str, str, str, str, str]]:
    """A row for each metric: its name, value, 95 % interval, reference band, and inside, above or below it."""
    rows = []
    for name, entry in summary["metrics"].items():
        value = f"{entry['mean']:.4f}"
        if entry["standard_deviation"] is not None:
            value += f" ± {entry['standard_deviation']:.4f}"
        interval = "{:.4f} to {:.4f}".format(*entry["interval_95"]) + f" over {entry['interval_is_over']}"
        band = (summary["reference"] or {}).get(name)
        verdict = ""
        if band:
            verdict = "below" if entry["mean"] < band[0] else "above" if entry["mean"] > band[1] else "inside"
        rows.append((name, value, interval, "{} to {}".format(*band) if band else "", verdict))
    return rows
