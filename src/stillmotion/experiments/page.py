"""The table and the figure of a study, from the content of reports/ablations/<name>.json."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from stillmotion.claims.compare import num_clips
from stillmotion.metrics.bootstrap import bootstrap_intervals
from stillmotion.printed import markdown
from stillmotion.report.tables import markdown_table, number

BOOTSTRAP_SEED = 0


def recall_on_validation(point: Mapping[str, Any]) -> tuple[float, float | None]:
    """Mean validation R@1 of a point and its sample standard deviation over the seeds, None for one seed."""
    scores = [run["validation_R@1"] for run in point["runs"]]
    return float(np.mean(scores)), float(np.std(scores, ddof=1)) if len(scores) > 1 else None


def recall_on_test(point: Mapping[str, Any]) -> tuple[float, float, float]:
    """Test R@K of a point with its 95 % interval: the seeds averaged, the bootstrap over the queries."""
    hits_Q = np.mean([run["test_hits"] for run in point["runs"]], axis=0)
    ((low, high),) = bootstrap_intervals(hits_Q[None], ["mean"], rng=np.random.default_rng(BOOTSTRAP_SEED))
    return float(hits_Q.mean()), float(low), float(high)


def study_page(result: Mapping[str, Any], failures: Mapping[str, str]) -> str:
    """Markdown: what was varied, the table, the figure, and what failed with its reason, by experiment."""
    seeds = sorted({run["seed"] for point in result["points"] for run in point["runs"]})
    setting = (
        f"`{result['param']}` of {result['model']} with {result['aggregator']} ({num_clips(result['num_clips'])}) on "
        f"{result['dataset']}; seeds {', '.join(map(str, seeds))}. R@K is text-to-video, in percent: on the validation "
        "split of the best epoch, ± the standard deviation over the seeds; on the test split of that epoch's model, "
        "with the 95 % bootstrap interval over the queries, the value of a query the mean over the seeds."
    )
    lines = [
        f"# {result['title']}",
        "",
        setting,
        "",
        study_table(result),
        "",
        f"![{result['title']}]({result['name']}.svg)",
    ]
    if failures:
        reasons = [f"- {markdown(name)}: {markdown(reason)}" for name, reason in failures.items()]
        lines += ["", "Not collected:", "", *reasons]
    return "\n".join(lines) + "\n"


def study_table(result: Mapping[str, Any]) -> str:
    """A row for each point, with what a training step cost where that was measured."""
    with_cost = any("cost" in point for point in result["points"])
    rows = []
    for point in result["points"]:
        cells = [str(point["value"]), str(len(point["runs"])), "–", "–"]
        if point["runs"]:
            mean, std = recall_on_validation(point)
            value, low, high = recall_on_test(point)
            cells[2:] = [
                number(mean) + ("" if std is None else f" ± {number(std)}"),
                f"{number(value)} ({number(low)} to {number(high)})",
            ]
        if with_cost:
            cost = point.get("cost")
            cells += _cost_cells(cost) if cost else ["–"] * 4
        rows.append(cells)
    header = [result["param"].rsplit(".", 1)[-1], "runs", "validation R@1", f"test R@{result['recall_at']}"]
    cost_header = ["forward GFLOPs", "backward GFLOPs", "peak memory in MiB", "seconds a step"]
    return markdown_table(header + (cost_header if with_cost else []), rows)


def _cost_cells(cost: Mapping[str, float]) -> list[str]:
    flops = [number(cost[f"{way}_flops"] / 1e9, 2) for way in ("forward", "backward")]
    return [*flops, number(cost["peak_memory_mib"], 0), number(cost["seconds_a_step"], 3)]


def study_figure(result: Mapping[str, Any]) -> Figure:
    """R@K by value, at equal distances: validation with its standard deviation, test with its interval."""
    points = [point for point in result["points"] if point["runs"]]
    places = np.arange(len(points))
    validation = [recall_on_validation(point) for point in points]
    test = np.array([recall_on_test(point) for point in points])
    figure, axes = plt.subplots(figsize=(5.5, 3.7), layout="constrained")
    axes.errorbar(
        places - 0.04,
        [mean for mean, _ in validation],
        yerr=[std or 0.0 for _, std in validation],
        marker="o",
        capsize=3,
        color="C0",
        label="validation R@1 (± standard deviation over seeds)",
    )
    axes.errorbar(
        places + 0.04,
        test[:, 0],
        yerr=np.maximum(0.0, [test[:, 0] - test[:, 1], test[:, 2] - test[:, 0]]),
        marker="s",
        capsize=3,
        color="C1",
        label=f"test R@{result['recall_at']} (95 % interval over queries)",
    )
    axes.set_xticks(places, [str(point["value"]) for point in points])
    axes.set_xlabel(result["param"])
    axes.set_ylabel("text-to-video recall in %")
    axes.set_title(result["title"])
    figure.legend(loc="outside lower center")
    return figure
