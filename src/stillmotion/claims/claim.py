"""A claim: a conclusion of a publication, whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stillmotion.claims.compare import Measurement
from stillmotion.claims.evidence import Evidence

Measure = Callable[[Evidence], list[Measurement]]

DEFAULT = "dvc repro"
"""What makes the evidence of a claim that names no experiment."""


@dataclass(frozen=True)
class Claim:
    """A conclusion, where it is drawn, and what this run says to it."""

    id: str
    text: str
    section: str
    """In which it is drawn."""
    rule: str
    """What is measured, and by what it is judged, for a reader of the page."""
    experiments: tuple[str, ...]
    """What makes the evidence for it; none for the default run."""
    measure: Measure
    """No measurement where the evidence was not made."""

    @property
    def command(self) -> str:
        """What to run where the evidence is missing."""
        return " && ".join(run_command(name) for name in self.experiments) or DEFAULT


Measured = Sequence[tuple[Claim, Sequence[Measurement]]]
"""What the claims of a source came to."""


@dataclass(frozen=True)
class Source:
    """A publication and what it concludes."""

    title: str
    rules: str
    """What holds for each of its claims."""
    claims: list[Claim] = field(default_factory=list)

    def measured(self, evidence: Evidence) -> Measured:
        """Each claim with its measurements, which are none where the evidence was not made."""
        return [(claim, claim.measure(evidence)) for claim in self.claims]

    def claim(
        self, text: str, *, section: str, rule: str = "", experiment: str | tuple[str, ...] = ()
    ) -> Callable[[Measure], Measure]:
        """Register the decorated function as what measures a claim; its name is the claim's id."""
        experiments = (experiment,) if isinstance(experiment, str) else experiment

        def register(measure: Measure) -> Measure:
            self.claims.append(Claim(measure.__name__, text, section, rule, experiments, measure))
            return measure

        return register


def open_claims(found: Measured) -> dict[str, list[str]]:
    """The claims of which nothing that their source has was measured, by the command that would."""
    by_command: dict[str, list[str]] = {}
    for claim, rows in found:
        if all(row.is_ours for row in rows):
            by_command.setdefault(claim.command, []).append(claim.text)
    return by_command


def run_command(experiment: str) -> str:
    """What runs an experiment."""
    return f"stillmotion run {experiment}"
