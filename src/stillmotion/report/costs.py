"""What the results page says of the cost of full-size architectures: counted, and of no dataset."""

from collections.abc import Iterator, Mapping
from typing import Any

from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import Origin
from stillmotion.report.links import Linked, linked
from stillmotion.report.tables import markdown_table, number

Step = Mapping[str, Any]


def architectures_table(evidence: Evidence) -> str:
    """Parameters, and a step with nothing but the embeddings frozen and all patches kept; then what changes of it.

    Patch dropout leaves a share of the forward pass, frozen blocks one of the backward pass. Nothing for none.
    """
    counted = evidence.architectures
    steps_of = {name: _steps(counted[name]) for name in counted}
    rates = sorted({rate for steps in steps_of.values() for rate, _ in steps if rate < 1}, reverse=True)
    depths = sorted({depth for steps in steps_of.values() for _, depth in steps if depth})
    rows = []
    for name, steps in steps_of.items():
        whole = steps.get((1.0, 0))
        flops = [(whole or counted[name]).get("forward_flops"), whole and whole["backward_flops"]]
        memory = number(whole["peak_memory_mib"], 0) if whole else "–"
        cells = [f"{counted[name]['parameters']:,}", *(number(of / 1e9) if of else "–" for of in flops), memory]
        cells += [_share(steps.get((rate, 0)), whole, "forward_flops") for rate in rates]
        cells += [_share(steps.get((1.0, depth)), whole, "backward_flops") for depth in depths]
        rows.append([_named(name), *cells])
    header = ["architecture", "parameters", "forward GFLOPs", "backward GFLOPs", "memory in MiB"]
    header += [f"forward, keep rate {rate:g}" for rate in rates]
    header += [f"backward, {depth} blocks frozen" for depth in depths]
    return markdown_table(header, rows) if rows else ""


def branches_table(evidence: Evidence) -> str:
    """What each STAN costs as a multiple of the CLIP that it stands beside; nothing where no two were counted."""
    counted, rows = evidence.architectures, []
    for name, clip in _branches(counted):
        step, whole = (_steps(counted[one]).get((1.0, 0)) for one in (name, clip))
        shares = [_share(step, whole, of) for of in ("forward_flops", "backward_flops", "peak_memory_mib")]
        parameters = f"× {counted[name]['parameters'] / counted[clip]['parameters']:.2f}"
        named = linked(name, [Origin("resources", one) for one in (name, clip)])
        rows.append([named, counted[clip]["architecture"], parameters, *shares])
    header = ["architecture", "against", "parameters", "forward", "backward", "memory"]
    return markdown_table(header, rows) if rows else ""


def _named(name: str) -> Linked:
    return linked(name, [Origin("resources", name)])


def _steps(counted: Mapping[str, Any]) -> dict[tuple[float, int], Step]:
    """The steps by keep rate and frozen blocks."""
    return {(step["keep_rate"], step["frozen_blocks"]): step for step in counted["steps"]}


def _share(step: Step | None, whole: Step | None, name: str) -> str:
    return f"× {step[name] / whole[name]:.2f}" if step and whole else "–"


def _branches(architectures: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Each STAN with the CLIP of the same architecture, frames and batch, where both were counted."""

    def alike(counted: Mapping[str, Any]) -> tuple[Any, ...]:
        return counted["settings"].get("architecture"), counted["num_frames"], counted["batch_size"]

    of_family = {
        family: {name: one for name, one in architectures.items() if one["settings"]["family"] == family}
        for family in ("clip", "stan")
    }
    clips = {alike(counted): name for name, counted in of_family["clip"].items()}
    for name, counted in of_family["stan"].items():
        if alike(counted) in clips:
            yield name, clips[alike(counted)]
