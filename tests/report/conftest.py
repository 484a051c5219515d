"""A run and its evidence in memory, for the tests of the report."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from stillmotion.config.run import RunParams
from stillmotion.report.evidence import Asked, Evidence, Levels, Study

TASKS = ("retrieval", "moments", "assessment", "actions", "resources", "architectures")


def run_params(**changes: Any) -> RunParams:
    """One backbone, fine-tuned by one recipe."""
    plain: dict[str, Any] = {
        "backbones": ["clip"],
        "expanded": [],
        "expansions": [],
        "corpora": [],
        "post_pretrained": [],
        "post_pretraining": [],
        "embedded": ["clip"],
        "finetuned": ["clip"],
        "recipes": ["half_patches"],
        "models": ["clip", "clip-half_patches"],
        "aggregators": ["mean", "transformer_mean", "class_token"],
        "conditional": [],
        "aligned": [],
        "alignments": [],
        "tight": [],
        "attended": [],
        "probed": ["clip"],
        "assessed": ["clip"],
        "selected": ["clip"],
        "selections": ["vc1_none", "vc1_norm"],
        "shot_detectors": [],
        "references": [],
        "submissions": [],
        "architectures": [],
    }
    return RunParams(**{**plain, **changes})


def query_row(qid: int, iou: float, *, true: Sequence[Sequence[float]] = ((4.0, 20.0),), **changes: Any) -> Any:
    """A row of queries.jsonl; `iou` is that of the top window and of the frames, and the average precision."""
    plain = {
        "qid": qid,
        "query": f"q{qid}",
        "vid": f"v{qid}",
        "duration": 60.0,
        "true_windows": [list(window) for window in true],
        "predicted_windows": [[4.0, 20.0, 0.5]],
        "top1_iou": iou,
        "average_precision": iou,
        "frame_iou": iou,
    }
    return plain | changes


def moment_metrics(kind: str = "selection", **changes: Any) -> dict[str, Any]:
    """The metrics file of a system of moment retrieval; `thresholds`, `frames_from` go to its protocol."""
    protocol = {"kind": kind, "thresholds": None, "frames_from": "top window", "clip_length_s": 2.0}
    if kind == "selection":
        protocol |= {"thresholds": searched(), "frames_from": "selection"}
    plain = {
        "brief": {
            "MR-full-R1@0.5": 53.94,
            "MR-full-R1@0.7": 34.84,
            "MR-full-mAP": 32.2,
            "MR-short-mAP": 3.28,
            "MR-middle-mAP": 32.3,
            "MR-long-mAP": 41.11,
        },
        "full": {},
        "mIoU": 48.57,
        "frames": {"IoU": 41.06},
        "num_empty": 3,
        "coverage": 71.23,
        "selected_share": 22.22,
        "ci95": {
            "MR-full-R1@0.5": [50.0, 58.0],
            "MR-full-mAP": [30.0, 34.0],
            "mIoU": [45.0, 51.0],
            "frames IoU": [39.0, 43.0],
        },
        "protocol": protocol,
    }
    of_protocol = {key: value for key, value in changes.items() if key in protocol}
    others = {key: value for key, value in changes.items() if key not in protocol}
    return plain | others | {"protocol": protocol | of_protocol}


def searched(
    method: str = "vc1", post: str = "none", objective: str = "R1@0.5", **parameters: float | int
) -> dict[str, Any]:
    """The content of thresholds.json."""
    return {
        "method": method,
        "post_processing": post,
        "objective": objective,
        "best_value": 55.27,
        "parameters": parameters or {"threshold": 0.61234567},
        "importances": {},
    }


@pytest.fixture
def make_run() -> Callable[..., RunParams]:
    return run_params


@pytest.fixture
def make_query() -> Callable[..., Any]:
    return query_row


@pytest.fixture
def make_moments() -> Callable[..., dict[str, Any]]:
    return moment_metrics


@pytest.fixture
def make_thresholds() -> Callable[..., dict[str, Any]]:
    return searched


@pytest.fixture
def make_evidence() -> Callable[..., Evidence]:
    """Evidence with the metrics of the tasks that are named, and nothing of the others."""

    def make(*, dataset: str = "toy", run: RunParams | None = None, **found: Any) -> Evidence:
        return Evidence(
            dataset=dataset,
            run=run or run_params(),
            metrics={task: found.get(task, {}) for task in TASKS},
            hits=found.get("hits", {}),
            hits_in_five=found.get("hits_in_five", {}),
            asked=[Asked(*query) for query in found.get("asked", [])],
            first_shows=found.get("first_shows", {}),
            levels=Levels("clip", np.array(found.get("levels", []), dtype=str)),
            queries=found.get("queries", {}),
            spans=found.get("spans", {}),
            studies=found.get("studies", {}),
            ablations={name: {"dataset": dataset, **row} for name, row in found.get("ablations", {}).items()},
            seed=0,
            num_resamples=400,
        )

    return make


@pytest.fixture
def make_selected(make_evidence: Callable[..., Evidence]) -> Callable[..., Evidence]:
    """Evidence of selections `vc1_none=[0.2, 0.6]`: IoUs of the queries, by name; `_frames` at the end of a name has
    thresholds for frames."""

    def make(*, run: RunParams | None = None, metrics: Any = None, **ious: Sequence[float]) -> Evidence:
        moments, queries, studies = {}, {}, {}
        for name, values in ious.items():
            for model in run.selected if run else ["clip"]:
                system, kind = f"{model}-{name}", name.removesuffix("_frames")
                objective = "frame_AP@0.5" if name.endswith("_frames") else "R1@0.5"
                thresholds = searched(kind[:3], kind[4:], objective)
                moments[system] = moment_metrics(thresholds=thresholds) | (metrics or {}).get(name, {})
                queries[system] = [query_row(qid, value) for qid, value in enumerate(values)]
                trials = [
                    {"number": 0, "value": 50.0, "threshold": 0.5},
                    {"number": 1, "value": 55.27, "threshold": 0.6},
                ]
                points = [{"parameter": "threshold", "at": at, "value": 50.0} for at in (0.0, 0.61234567, 1.0)]
                studies[system] = Study(trials, points)
        run = run or run_params(selections=list(ious))
        return make_evidence(run=run, moments=moments, queries=queries, studies=studies)

    return make
