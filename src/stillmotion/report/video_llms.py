"""What the results page says of a video LLM's hidden states: MRR by pooling before and after it, and by layer.

Source: Baba Ahmadi 2023 (papers/video-llama-retrieval.txt), section 3.1 and its conclusion.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from stillmotion.claims.evidence import Evidence
from stillmotion.report.tables import markdown_table, number

Sweep = Sequence[Mapping[str, Any]]
"""Rows of layer, video_pooling, text_pooling, MRR and R@1."""
Histories = Mapping[str, Sequence[Mapping[str, float]]]
"""Epochs of what was trained, by name."""


def pooling_tables(evidence: Evidence) -> dict[str, str]:
    """Of each system of a given layer the MRR of the test queries, videos' poolings in rows, texts' in columns."""
    tables: dict[str, str] = {}
    for key, values in evidence.metrics("retrieval").items():
        sweep: Sweep = values.get("poolings", ())
        if sweep:
            texts = list(dict.fromkeys(row["text_pooling"] for row in sweep))
            mrr = {(row["video_pooling"], row["text_pooling"]): row["MRR"] for row in sweep}
            videos = list(dict.fromkeys(row["video_pooling"] for row in sweep))
            rows = [[video, *(number(mrr[video, text], 2) for text in texts)] for video in videos]
            tables[key] = markdown_table([f"T2V MRR at {sweep[0]['layer']}: videos by, texts by", *texts], rows)
    return tables


def sweeps(evidence: Evidence) -> dict[str, Sweep]:
    """What each system whose layer was chosen was chosen by."""
    found = evidence.metrics("retrieval")
    return {key: values["sweep"] for key, values in found.items() if values.get("sweep")}


def sweep_table(sweep: Sweep) -> str:
    """MRR on validation, a row for the poolings of a video and a text and a column for each layer."""
    layers, rows = list(dict.fromkeys(row["layer"] for row in sweep)), []
    for (video, text), of_layer in _by_poolings(sweep).items():
        rows.append([f"{video}, {text}", *(number(of_layer[layer], 2) for layer in layers)])
    return markdown_table(["validation MRR: poolings of video, text", *layers], rows)


def _by_poolings(sweep: Sweep) -> dict[tuple[str, str], dict[str, float]]:
    by: dict[tuple[str, str], dict[str, float]] = {}
    for row in sweep:
        by.setdefault((row["video_pooling"], row["text_pooling"]), {})[row["layer"]] = row["MRR"]
    return by


def drawn_sweeps(evidence: Evidence) -> dict[str, Figure]:
    """A heat map of each sweep by the name of its figure."""
    return {f"layers-{key}": heat_map(sweep) for key, sweep in sweeps(evidence).items()}


def heat_map(sweep: Sweep) -> Figure:
    """MRR on validation, layers in rows from the top down and poolings in columns; its value stands in each cell."""
    by, layers = _by_poolings(sweep), list(dict.fromkeys(row["layer"] for row in sweep))
    values = np.array([[of_layer[layer] for of_layer in by.values()] for layer in layers])
    figure, axes = plt.subplots(figsize=(0.42 * len(by) + 1.6, 0.32 * len(layers) + 1.5))
    image = axes.imshow(values, cmap="Blues", aspect="auto", vmin=0)
    axes.set_xticks(range(len(by)), [f"{video}, {text}" for video, text in by], rotation=60, ha="right")
    axes.set_yticks(range(len(layers)), layers)
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value > 0.6 * values.max() else "black"
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=6, color=color)
    axes.set_xlabel("pooling of the video, of the text")
    figure.colorbar(image, ax=axes, label="T2V MRR on validation, %")
    return figure


def loss_curves(histories: Histories) -> Figure:
    """Loss of each head by epoch, a small picture for each, as figures 1 to 10 of Baba Ahmadi 2023."""
    columns = min(3, len(histories))
    rows = -(-len(histories) // columns)
    figure, grid = plt.subplots(rows, columns, squeeze=False, figsize=(3.2 * columns, 2.1 * rows))
    for axes in grid.flat[len(histories) :]:
        axes.set_axis_off()
    for axes, (name, history) in zip(grid.flat, histories.items(), strict=False):
        for seed in dict.fromkeys(row["seed"] for row in history):
            of_seed = [row for row in history if row["seed"] == seed]
            epochs = [row["epoch"] + 1 for row in of_seed]
            axes.plot(epochs, [row["loss"] for row in of_seed], color="tab:blue", linewidth=1)
            axes.plot(epochs, [row["validation_loss"] for row in of_seed], color="tab:red", linewidth=1, linestyle="--")
        axes.set_title(name, fontsize=6)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
    figure.tight_layout()
    return figure
