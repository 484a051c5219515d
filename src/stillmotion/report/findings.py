"""What a reader takes home from a run, in a line each: the first lines of the results page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stillmotion.claims.claim import Claim, Source
from stillmotion.claims.compare import Measurement, Pair, measured
from stillmotion.claims.evidence import Evidence
from stillmotion.report.first_videos import SHOWN
from stillmotion.report.moments import moment_pairs
from stillmotion.report.retrieval import retrieval_pairs
from stillmotion.report.systems import SystemRow, TaskTable

Measured = Sequence[tuple[Source, Sequence[tuple[Claim, Sequence[Measurement]]]]]
"""What the claims of each source came to."""


@dataclass(frozen=True)
class Finding:
    """A line, the task that it is of, and the systems whose metrics files say so."""

    text: str
    task: str
    keys: Sequence[str]


def findings(evidence: Evidence, tables: Mapping[str, TaskTable], claims: Measured) -> list[Finding]:
    """At most five lines: those of what was measured."""
    lines: tuple[Callable[[], Finding | None], ...] = (
        lambda: _largest(evidence, "retrieval", "R@1", retrieval_pairs(evidence)),
        lambda: _wrong_first(evidence, tables.get("retrieval")),
        lambda: _largest(evidence, "moments", "R1@0.5", moment_pairs(evidence, "R1@0.5")),
        lambda: _probe(tables.get("actions")),
        lambda: _tally(claims),
    )
    return [finding for line in lines if (finding := line()) is not None]


def tally(claims: Measured) -> dict[str, int]:
    """How many claims came to each verdict; of a claim with several measurements all must say the same."""
    counts = dict.fromkeys(("holds", "does not hold", "mixed or undecided", "not measured"), 0)
    for _, of_source in claims:
        for _, rows in of_source:
            verdicts = {row.verdict for row in rows if not row.is_ours}
            one = next(iter(verdicts), "not measured") if len(verdicts) < 2 else "mixed or undecided"
            counts[one if one in counts else "mixed or undecided"] += 1
    return counts


def _largest(evidence: Evidence, task: str, measure: str, pairs: Sequence[Pair]) -> Finding | None:
    """The largest difference between two systems that are alike but for one thing."""
    effects = [(pair, measured(pair, evidence.draws).interval) for pair in pairs]
    known = [(pair, interval) for pair, interval in effects if interval is not None]
    if not known:
        return None
    pair, (points, low, high) = max(known, key=lambda effect: abs(effect[1][0]))
    better, worse = pair.better["key"], pair.worse["key"]
    if points < 0:
        better, worse, points, low, high = worse, better, -points, -high, -low
    sure = "" if low > 0 else ", which may be chance"
    text = f"{better} is {points:.1f} points of {measure} above {worse} ({low:.1f} to {high:.1f}){sure}: "
    return Finding(f"{text}the largest effect of one change in {_NAMES[task]}.", task, (better, worse))


_NAMES = {"retrieval": "retrieval", "moments": "finding moments"}


def _wrong_first(evidence: Evidence, table: TaskTable | None) -> Finding | None:
    best = table.best if table else None
    shows = evidence.first_shows.get(best.key, ()) if best else ()
    wrong = [name for name in shows if name != SHOWN[0]]
    if best is None or not wrong:
        return None
    share = 100 * sum(name == SHOWN[2] for name in wrong) / len(wrong)
    event = 100 * sum(name == SHOWN[1] for name in wrong) / len(wrong)
    text = (
        f"Where {best.key} puts a wrong video first ({100 * len(wrong) / len(shows):.0f} % of captions), that video shows a"
        f" described event in {event:.0f} % of cases, the right thing in another motion in {share:.0f} %, neither in the"
        " rest."
    )
    return Finding(text, "retrieval", (best.key,))


def _probe(table: TaskTable | None) -> Finding | None:
    if table is None or table.best is None or len(table.columns) < 2:
        return None

    def most(row: SystemRow) -> float:
        return row.cells[-1].value or 0.0

    row = max(table.rows, key=most)
    text = (
        f"Naming actions, {table.best.key} is right in {table.best.cells[0].value:.1f} % zero-shot; a probe on"
        f" {row.key} reaches {most(row):.1f} % with {table.columns[-1].title}."
    )
    return Finding(text, "actions", tuple(dict.fromkeys((table.best.key, row.key))))


def _tally(claims: Measured) -> Finding | None:
    counts = tally(claims)
    if not sum(counts.values()):
        return None
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return Finding(f"Of {sum(counts.values())} published conclusions: {told} here.", "claims", ())
