"""What a reader takes home from a run, in a line each: the first lines of the results page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stillmotion.claims.claim import Measured
from stillmotion.claims.compare import Pair, measured
from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import Origin, shared_name
from stillmotion.report.first_videos import SHOWN
from stillmotion.report.moments import moment_pairs
from stillmotion.report.retrieval import retrieval_pairs
from stillmotion.report.systems import TaskTable

UNDECIDED, UNMEASURED = "undecided or mixed", "not measured in this run"
VERDICTS_OF = {"holds": "hold", "does not hold": "do not hold"}
VERDICTS = (*VERDICTS_OF.values(), UNDECIDED, UNMEASURED)


@dataclass(frozen=True)
class Finding:
    """A line, and where its numbers come from."""

    text: str
    origins: Sequence[Origin] = ()
    """Their files."""
    section: str = ""
    """The section of the page that they are counted in."""


def findings(evidence: Evidence, tables: Mapping[str, TaskTable], claims: Sequence[Measured]) -> list[Finding]:
    """At most five lines: those of what was measured."""
    lines: tuple[Callable[[], Finding | None], ...] = (
        lambda: _largest(evidence, "retrieval", "R@1", retrieval_pairs(evidence)),
        lambda: _wrong_first(evidence, tables.get("retrieval")),
        lambda: _largest(evidence, "moment retrieval", "R1@0.5", moment_pairs(evidence, "R1@0.5")),
        lambda: _probe(evidence, tables.get("actions")),
        lambda: _tally(claims),
    )
    return [finding for line in lines if (finding := line()) is not None]


def tally(claims: Sequence[Measured]) -> dict[str, int]:
    """How many claims came to each of VERDICTS; of a claim with several measurements all must say the same."""
    counts = dict.fromkeys(VERDICTS, 0)
    for of_source in claims:
        for _, rows in of_source:
            verdicts = {VERDICTS_OF.get(row.verdict, UNDECIDED) for row in rows if not row.is_ours}
            counts[UNMEASURED if not verdicts else UNDECIDED if len(verdicts) > 1 else verdicts.pop()] += 1
    return counts


def _largest(evidence: Evidence, within: str, measure: str, pairs: Sequence[Pair]) -> Finding | None:
    """The largest difference between two systems that are alike but for one thing."""
    effects = [(pair, measured(pair, evidence.draws).interval) for pair in pairs]
    known = [(pair, interval) for pair, interval in effects if interval is not None]
    if not known:
        return None
    pair, (points, low, high) = max(known, key=lambda effect: abs(effect[1][0]))
    better, worse = shared_name(pair.better["keys"]), shared_name(pair.worse["keys"])
    if points < 0:
        better, worse, points, low, high = worse, better, -points, -high, -low
    told = f"{points:.1f} points of {measure} ({low:.1f} to {high:.1f}{'' if low > 0 else ', which may be chance'})."
    return Finding(f"Of changes in one thing, {within} gains most by {better} over {worse}, {told}", pair.origins)


def _wrong_first(evidence: Evidence, table: TaskTable | None) -> Finding | None:
    """What the best system shows in place of the right video."""
    best = table.best if table else None
    shows = evidence.first_shows.get(best.key, ()) if best else ()
    wrong = [name for name in shows if name != SHOWN[0]]
    if best is None or not wrong:
        return None
    event, subject = (100 * wrong.count(name) / len(wrong) for name in SHOWN[1:3])
    share = 100 * len(wrong) / len(shows)
    told = f"By its first seed, {best.key} puts a wrong video first for {share:.0f} % of the captions; of these"
    shown = f" {subject:.0f} % show the described thing in other motions, {event:.0f} % a described event."
    return Finding(told + shown, (Origin("retrieval", best.key),))


def _probe(evidence: Evidence, table: TaskTable | None) -> Finding | None:
    """The best zero-shot beside the best probe with the most shots."""
    if table is None or table.best is None or len(table.columns) < 2:
        return None
    probed = max(table.rows, key=lambda row: row.cells[-1].value or 0.0)
    rates = (table.best.cells[0].value or 0.0, probed.cells[-1].value or 0.0)
    best, protocol = table.best.cells[0], evidence.metrics("actions")[table.best.key]["protocol"]
    contained = best.low is not None and best.high is not None and best.low <= protocol["chance_top1"] <= best.high
    beside = f" ({table.beside}{', which its interval contains' if contained else ''})" if table.beside else ""
    told = f"{table.best.key} names {rates[0]:.1f} % of actions zero-shot{beside}; {table.columns[-1].title} reach "
    where = f"{rates[1]:.1f} %" + ("." if probed == table.best else f" on {probed.key}.")
    return Finding(told + where, tuple(Origin("actions", row.key) for row in (table.best, probed)))


def _tally(claims: Sequence[Measured]) -> Finding | None:
    counts = tally(claims)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return Finding(f"Of {sum(counts.values())} published conclusions {told}.", section="claims") if told else None
