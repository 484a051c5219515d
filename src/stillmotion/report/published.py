"""The page of published numbers with ours beside them, or with the command that would make ours."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from stillmotion.errors import InputError
from stillmotion.report.counterparts import Counterpart, Ours
from stillmotion.report.evidence import Evidence
from stillmotion.report.sections import SECTIONS, Section
from stillmotion.report.tables import markdown_table


@dataclass(frozen=True)
class PublishedNumber:
    """A row of data/published_results.csv."""

    system: str
    dataset: str
    split: str
    metric: str
    value: str
    """As printed: percent in one source and fractions in another, `±` and the deviation over seeds in some."""
    source: str


@dataclass(frozen=True)
class _Row:
    """One system on one split: a row of a table, and what we have of it."""

    system: str
    where: str
    """Part of the source, and split."""
    values: dict[str, str]
    counterpart: Counterpart | None
    ours: Ours | None

    @property
    def found(self) -> list[str]:
        """The metrics that ours has."""
        return [name for name in self.values if self.ours and name in self.ours.values]

    @property
    def not_run(self) -> list[str]:
        """The metrics that ours would have."""
        comparable = self.counterpart.metrics if self.counterpart else ()
        return [name for name in self.values if name in comparable and name not in self.found]


def read_published(path: Path) -> list[PublishedNumber]:
    """The rows of a CSV with the columns system, dataset, split, metric, value, source.

    Raises:
        InputError: there is no such file, a column is missing, or a cell is empty; one line that names the row as a
            spreadsheet shows it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; restore it with git checkout") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    columns = [field.name for field in fields(PublishedNumber)]
    reader = csv.DictReader(io.StringIO(text))
    if list(reader.fieldnames or []) != columns:
        raise InputError(f"{path}: the first row must be {','.join(columns)}")
    numbers = []
    for place, row in enumerate(reader, start=2):
        cells = [row[column] for column in columns]
        if None in row or not all(cells):
            raise InputError(f"{path} row {place}: each column must have one value; quote a value with commas")
        numbers.append(PublishedNumber(*cells))
    return numbers


def published_page(numbers: Sequence[PublishedNumber], evidence: Evidence) -> str:
    """The page in Markdown: by source, by table of it, a row for each system with ours below it."""
    tables: dict[Section, dict[str, list[_Row]]] = {}
    left = list(numbers)
    for section in SECTIONS:
        own = [number for number in left if number.source.startswith(section.prefix)]
        left = [number for number in left if not number.source.startswith(section.prefix)]
        if own:
            tables[section] = _tables(section, own, evidence)
    rows = [row for by_title in tables.values() for own_rows in by_title.values() for row in own_rows]
    num_ours, num_not_run = sum(len(row.found) for row in rows), sum(len(row.not_run) for row in rows)
    intro = [
        "# Published numbers, and ours",
        f"{len(numbers)} published numbers, from data/published_results.csv. Beside {num_ours} of them stands ours; "
        f"{num_not_run} are of systems that have not run on that data here, with the command that would; "
        f"{len(numbers) - num_ours - num_not_run} have no counterpart, since the system, its dataset or that measure "
        "is not part of the pipeline. Values are as printed, and ours in the same unit: percentages, or fractions "
        "where the source has fractions; ± is the standard deviation over seeds.",
        "Ours is shown where `dataset` in params.yaml is the folder data/sources/activitynet, msrvtt or qvhighlights, "
        "its test split has as many queries as the published one (missing ones counted), and the system has run. The "
        f"results here are those of `{evidence.dataset}`. The letter in the last column is the command of the section "
        "that would make ours. data/sources/README.md says how a dataset gets into its folder.",
    ]
    body = [part for section, by_title in tables.items() for part in _section(section, by_title)]
    return "\n\n".join([*intro, *body]) + "\n"


def _section(section: Section, tables: Mapping[str, Sequence[_Row]]) -> list[str]:
    parts = [f"## {section.title}", "\n".join(f"- {note}" for note in section.notes)]
    for place, command in enumerate(section.commands):
        parts.append(f"**{_letter(place)}**: {command.purpose}\n\n```\n{command.text}\n```")
    for title, rows in tables.items():
        parts += [f"### {title}", _table(rows)]
    return parts


def _tables(section: Section, numbers: Sequence[PublishedNumber], evidence: Evidence) -> dict[str, list[_Row]]:
    """The rows of each table of a section, by its title."""
    tables: dict[str, list[_Row]] = {}
    for row_numbers in _grouped(numbers):
        first = row_numbers[0]
        part = _part(section, first.source)
        if section.by_dataset:
            title = "No dataset" if first.dataset == "-" else first.dataset
            where = part if first.split == "-" else f"{part}, {first.split}"
        else:
            title, where = part if first.dataset == "-" else f"{part}: {first.dataset}, {first.split}", ""
        tables.setdefault(title, []).append(_row(section, row_numbers, where, evidence))
    return tables


def _part(section: Section, source: str) -> str:
    """What a source says beyond the name of its section: a table or a section of it."""
    return re.sub(rf"^{re.escape(section.prefix)}\s*(\([^)]*\))?\s*", "", source) if section.prefix else source


def _grouped(numbers: Sequence[PublishedNumber]) -> list[list[PublishedNumber]]:
    """The numbers of one system on one split together, in the order of the file."""
    groups: dict[tuple[str, str, str, str], list[PublishedNumber]] = {}
    for number in numbers:
        groups.setdefault((number.source, number.dataset, number.split, number.system), []).append(number)
    return list(groups.values())


def _row(section: Section, numbers: Sequence[PublishedNumber], where: str, evidence: Evidence) -> _Row:
    values = {number.metric: number.value for number in numbers}
    first = numbers[0]
    for counterpart in section.counterparts:
        groups = counterpart.match(first.source, first.dataset, first.system)
        if groups is not None:
            is_here = counterpart.dataset in ("", evidence.dataset)
            ours = counterpart.find(groups, evidence) if is_here else None
            return _Row(first.system, where, values, counterpart, ours)
    return _Row(first.system, where, values, None, None)


def _table(rows: Sequence[_Row]) -> str:
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.values))
    has_where, has_ours = any(row.where for row in rows), any(row.counterpart for row in rows)
    lines = []
    for row in rows:
        cells = [row.system, *(row.values.get(metric, "–") for metric in metrics)]
        lines.append(cells + [row.where] * has_where + [_state(row)] * has_ours)
        if row.ours:
            ours = [f"↳ {row.ours.label}", *(row.ours.values.get(metric, "–") for metric in metrics)]
            lines.append(ours + [""] * has_where + [""])
    header = ["system", *metrics] + ["source, split"] * has_where + ["ours"] * has_ours
    table = markdown_table(header, lines)
    return table if has_ours else f"None of these has a counterpart here.\n\n{table}"


def _state(row: _Row) -> str:
    if row.counterpart is None:
        return "no counterpart"
    letters = ", ".join(_letter(place) for place in row.counterpart.commands)
    missing = f"not run here: {letters}" if row.not_run else ""
    return "; ".join(filter(None, ["below" if row.ours else "", missing]))


def _letter(place: int) -> str:
    return "ABCDEFGH"[place]
