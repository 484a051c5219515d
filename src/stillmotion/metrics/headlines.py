"""Headline values of a run: what `dvc metrics` and `dvc exp show` list, where the details stay in files of git."""

from collections.abc import Mapping
from typing import Any

HEADLINES = {
    "retrieval": ("t2v", "R@1"),
    "moments": ("brief", "MR-full-R1@0.5"),
    "actions": ("zero_shot", "top1"),
}
"""Where the value of a task lies in its metrics files."""


def headline_values(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The best system of each task and the first one, by name and value; a task without results is left out.

    Example:
        Systems a and b of retrieval with 30 and 40 give `best_system: b, best: 40, base_system: a, base: 30`.

    Args:
        metrics: content of the metrics files by task and system, the base system of each task first. References and
            submissions, which no model of the run has made, are no systems here.
    """
    found = {}
    for task, (group, name) in HEADLINES.items():
        values = {
            key: content[group][name]
            for key, content in metrics.get(task, {}).items()
            if content["system"]["model"] is not None and content.get(group)
        }
        if values:
            best, base = max(values, key=lambda key: values[key]), next(iter(values))
            found[task] = {
                "metric": f"{group} {name}",
                "best": values[best],
                "best_system": best,
                "base": values[base],
                "base_system": base,
            }
    return found
