"""Tables in Markdown of published numbers with ours below them."""

from collections.abc import Mapping, Sequence

from stillmotion.report.published import OURS, Published
from stillmotion.report.tables import markdown_table


def published_tables(numbers: list[Published], *, by_dataset: bool) -> dict[str, str]:
    """The tables of a document by title: a row for each system on a split, with ours below it.

    Args:
        numbers: of the document.
        by_dataset: a table for each dataset, with a column that says which part of the source; else one for each part.
    """
    tables: dict[str, dict[tuple[str, str], list[Published]]] = {}
    for row in numbers:
        has_dataset = row.dataset != "-"
        if by_dataset:
            title = row.dataset if has_dataset else "No dataset"
            where = row.part if row.split == "-" else f"{row.part}, {row.split}"
        else:
            title, where = f"{row.part}: {row.dataset}, {row.split}" if has_dataset else row.part, ""
        tables.setdefault(title, {}).setdefault((row.system, where), []).append(row)
    return {title: _table(groups) for title, groups in tables.items()}


def by_several(numbers: Sequence[Published]) -> list[list[str]]:
    """Rows of what several documents measured of one model on one dataset, in percent, and ours of it.

    Dataset, model and measure; the values with their sources and splits; ours, and its experiment.
    """
    of: dict[tuple[str, ...], list[tuple[Published, str]]] = {}
    for row in numbers:
        for *measure, scale in row.measures:
            of.setdefault(tuple(measure), []).append((row, scale))
    lines = []
    for key, found in of.items():
        if len({row.document for row, _ in found}) > 1:
            told = []
            for row, scale in found:
                where = [row.document, row.part, *([row.split] if row.split != "-" else [])]
                told.append(f"{_percent(row.value, scale)} ({', '.join(where)})")
            ours = next(
                (f"{row.ours} ({row.labels[0]})" for row, scale in found if row.ours and float(scale) == 1), None
            )
            base, on, path = key[OURS.index("base")], key[OURS.index("on")], key[-1]
            lines.append(
                [
                    on,
                    base,
                    path,
                    "; ".join(told).replace(", -)", ")"),
                    ours or "not run here",
                    *found[0][0].experiments[:1],
                ]
            )
    return lines


def _percent(value: str, scale: str) -> str:
    return value if float(scale) == 1 else f"{float(value) / float(scale):g}"


def _table(groups: Mapping[tuple[str, str], list[Published]]) -> str:
    every = [row for rows in groups.values() for row in rows]
    metrics = list(dict.fromkeys(row.metric for row in every))
    has_where, has_ours = any(where for _, where in groups), any(row.experiments for row in every)
    lines = []
    for (system, where), rows in groups.items():
        ours = {row.metric: row.ours for row in rows if row.ours is not None}
        cells = [(system, {row.metric: row.value for row in rows}, where, _state(rows))]
        if ours:
            labels = dict.fromkeys(label for row in rows for label in row.labels)
            cells.append((f"↳ {'; '.join(labels)}", ours, "", ""))
        for name, of_metric, place, state in cells:
            numbers = [of_metric.get(metric, "–") for metric in metrics]
            lines.append([name, *numbers] + [place] * has_where + [state] * has_ours)
    header = ["system", *metrics] + ["source, split"] * has_where + ["ours"] * has_ours
    table = markdown_table(header, lines)
    return table if has_ours else f"None of these has a counterpart here.\n\n{table}"


def _state(rows: list[Published]) -> str:
    if not any(row.experiments for row in rows):
        return "no counterpart"
    missing = dict.fromkeys(name for row in rows if row.ours is None for name in row.experiments)
    not_run = f"not run here: {', '.join(missing)}" if missing else ""
    return "; ".join(filter(None, ["below" if any(row.ours is not None for row in rows) else "", not_run]))
