"""Cells and tables: in Markdown, and of numbers that are shaded."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillmotion.claims.systems import Origin


class Table(str):
    """A table in Markdown that keeps its header and rows, for a page that sets them otherwise."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> Table:
    """A table with its first columns, `left` of them, set left and the others right."""
    rows = list(rows)
    lines = [_row(header), "|---" * left + "|---:" * (len(header) - left) + "|"]
    table = Table("\n".join(lines + [_row(row) for row in rows]))
    table.header, table.rows = header, rows
    return table


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(markup: str) -> str:
    """Markup that ends neither a cell nor a row; what comes from outside is `printed.markdown` already."""
    return " ".join(markup.split()).replace("|", "\\|")


def number(value: Any, digits: int = 1) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def with_interval(values: Mapping[str, Any], name: str) -> str:
    """A value with its 95 % interval, such as `63.1 (55.6 to 70.6)`."""
    interval = values.get("ci95", {}).get(name)
    if interval is None:
        return number(values.get(name))
    return f"{number(values[name])} ({number(interval[0])} to {number(interval[1])})"


def leading_value(cell: str) -> str:
    """The number that a cell begins with, for sorting; empty where it begins with none.

    Example:
        `63.1 (55.6 to 70.6)` is 63.1, `× 0.55` is 0.55, `1,024` is 1024, and a dash is nothing.
    """
    found = re.match(r"(?:× )?([+-]?[\d,]*\.?\d+)", cell)
    return found[1].replace(",", "") if found else ""


@dataclass(frozen=True)
class HeatRow:
    """Numbers of one file, None where it has none."""

    name: str
    origin: Origin
    values: Sequence[float | None]


@dataclass(frozen=True)
class HeatTable:
    """Rows by group, whose numbers stand on a ground that is the stronger the higher they are."""

    header: Sequence[str]
    groups: Mapping[str, Sequence[HeatRow]]
    digits: int = 1
    chosen: tuple[str, str] | None = None
    """Row and column of what was chosen by these numbers."""

    def strength(self, value: float) -> int:
        """Percent of the way from the lowest number to the highest."""
        values = [one for rows in self.groups.values() for row in rows for one in row.values if one is not None]
        low, high = min(values), max(values)
        return round(100 * (value - low) / (high - low)) if high > low else 0
