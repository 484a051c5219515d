"""What the results page says of a video LLM's hidden states: MRR by pooling before and after it, by layer, and heads.

Source: Baba Ahmadi 2023 (papers/video-llama-retrieval.txt), section 3.1, figures 1 to 10 and its conclusion.
"""

from collections.abc import Mapping
from typing import Any

from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import Origin
from stillmotion.report.charts import LineChart, Points, line_chart
from stillmotion.report.links import linked
from stillmotion.report.tables import HeatRow, HeatTable, markdown_table, number, with_interval
from stillmotion.report.trainings import Histories

TRAINING, VALIDATION = 0, 9
"""Colours of the curves of a loss: drawn through, and dashed."""


def poolings_tables(evidence: Evidence) -> list[HeatTable]:
    """MRR of the test queries, by system of a given layer: videos' poolings in rows, texts' in columns."""
    found = {key: values["poolings"] for key, values in evidence.metrics("retrieval").items() if values.get("poolings")}
    texts = list(dict.fromkeys(row["text_pooling"] for sweep in found.values() for row in sweep))
    groups = {}
    for key, sweep in found.items():
        mrr = {(row["video_pooling"], row["text_pooling"]): row["MRR"] for row in sweep}
        groups[f"{key}, at {sweep[0]['layer']}"] = [
            HeatRow(video, Origin("retrieval", key), [mrr.get((video, text)) for text in texts])
            for video in dict.fromkeys(row["video_pooling"] for row in sweep)
        ]
    return [HeatTable(["pooling of the video; texts by", *texts], groups, digits=2)] if groups else []


def sweep_tables(evidence: Evidence) -> list[HeatTable]:
    """MRR on validation of each system whose layer was chosen by it: poolings of video and text by layer."""
    tables = []
    for key, values in evidence.metrics("retrieval").items():
        by: dict[str, dict[str, float]] = {}
        for row in values.get("sweep", ()):
            by.setdefault(f"{row['video_pooling']}, {row['text_pooling']}", {})[row["layer"]] = row["MRR"]
        if by:
            layers = list(next(iter(by.values())))
            rows = [HeatRow(name, Origin("retrieval", key), list(map(own.get, layers))) for name, own in by.items()]
            layer, video, text = _chosen(values)
            header = ["pooling of the video, of the text", *layers]
            tables.append(HeatTable(header, {key: rows}, digits=2, chosen=(f"{video}, {text}", layer)))
    return tables


def best_layers_table(evidence: Evidence) -> str:
    """What each sweep has chosen, by its MRR on validation, and MRR on test; nothing for none."""
    rows = []
    for key, values in evidence.metrics("retrieval").items():
        if values.get("sweep"):
            chosen, best = _chosen(values), max(row["MRR"] for row in values["sweep"])
            of_test = with_interval(values["t2v"], "MRR")
            rows.append([linked(key, [Origin("retrieval", key)]), of_test, number(best, 2), *chosen])
    header = ["chosen", "MRR on test", "on validation", "layer", "pooling of the video", "of the text"]
    return markdown_table(header, rows) if rows else ""


def _chosen(values: Mapping[str, Any]) -> tuple[str, str, str]:
    """Layer and poolings of the video and of the text."""
    chosen = values["protocol"]["hidden_states"]
    return chosen["layer"], chosen["video_pooling"], chosen["text_pooling"]


def heads_table(evidence: Evidence, histories: Histories) -> str:
    """What each trained head reads, its losses after the last epoch, the mean over seeds, and MRR; nothing for none."""
    rows = []
    for key, values in evidence.metrics("retrieval").items():
        head, history = values["protocol"].get("head"), histories.get(key, ())
        if head and history:
            last = [row for row in history if row["epoch"] == history[-1]["epoch"]]
            ends = (
                number(sum(row[name] for row in last) / len(last) if name in last[0] else None, 3)
                for name in ("loss", "validation_loss")
            )
            poolings = ", ".join(head[name] for name in ("video_pooling", "text_pooling") if name in head)
            read = [head["layer"], poolings or "all tokens", head.get("inputs", "–"), head["loss"]]
            named = linked(key, [Origin("retrieval", key)])
            rows.append([named, with_interval(values["t2v"], "MRR"), *read, *ends])
    header = ["head", "MRR on test", "layer", "poolings", "inputs", "loss", "of training", "of validation"]
    return markdown_table(header, rows) if rows else ""


def loss_charts(histories: Histories) -> list[LineChart]:
    """Loss of each head by epoch, on the training and on the validation pairs, a line for each seed."""
    charts = []
    for key, history in histories.items():
        curves = []
        for seed in dict.fromkeys(row["seed"] for row in history if "validation_loss" in row):
            of_seed = [row for row in history if row["seed"] == seed]
            for name, of, color in (("training", "loss", TRAINING), ("validation", "validation_loss", VALIDATION)):
                values = [(row["epoch"] + 1, row[of], row[of], row[of]) for row in of_seed]
                curves.append(Points(name, values, dots=[values[-1][0]], color=color))
        charts.append(line_chart(f"{key}: loss", curves, "epoch", float, digits=3))
    return [chart for chart in charts if chart is not None]
