"""What the results page says of fine-tunings: losses and validation scores by epoch."""

from collections.abc import Mapping, Sequence

from stillmotion.claims.systems import Origin
from stillmotion.report.charts import LineChart, Points, line_chart
from stillmotion.report.links import linked
from stillmotion.report.tables import markdown_table, number

History = Sequence[Mapping[str, float]]
"""Epochs: epoch, loss, score where it was validated; seed and validation_loss of a head."""
Histories = Mapping[str, History]
"""By model or system."""


def finetuned_table(histories: Histories) -> str:
    """Losses of each model after its first and last epoch, and the epoch that was kept, with its score; "" for none."""
    rows = []
    for key, history in histories.items():
        if history:
            best = max(history, key=lambda row: row.get("score", row["epoch"]))  # unscored, the last is kept
            score = best.get("score")
            losses = (number(row["loss"], 3) for row in (history[0], history[-1]))
            kept = [number(score, 1 if _is_rate(history) else 3), str(best["epoch"] + 1), str(len(history))]
            rows.append([linked(key, [Origin("finetune", key)]), *kept, *losses])
    header = ["model", "validation score", "of epoch", "epochs", "first loss", "last loss"]
    return markdown_table(header, rows) if rows else ""


def finetune_charts(histories: Histories) -> list[LineChart]:
    """The loss, then the validation score of what is ranked or named, and of what writes; a model has one color."""
    kinds = {
        "Training loss by epoch": ("loss", dict(histories), 3),
        "Validation R@1 or top-1 in % by epoch": ("score", {k: h for k, h in histories.items() if _is_rate(h)}, 1),
        "Validation loss by epoch, negated": ("score", {k: h for k, h in histories.items() if not _is_rate(h)}, 3),
    }
    charts = []
    for title, (name, of_kind, digits) in kinds.items():
        curves = []
        for key in histories:
            known = [row for row in of_kind.get(key, ()) if name in row]
            values = [(row["epoch"] + 1, row[name], row[name], row[name]) for row in known]
            told = [max(values, key=lambda value: value[1])[0] if name == "score" else values[-1][0]] if values else []
            curves.append(Points(key, values, dots=told))
        charts.append(line_chart(title, curves, "epoch", float, digits))
    return [chart for chart in charts if chart is not None]


def _is_rate(history: History) -> bool:
    """Whether it is scored by a rate; of a video LLM that writes it is the loss, negated."""
    return all(row.get("score", 0) >= 0 for row in history)
