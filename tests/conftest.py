"""Fixtures that every test may use."""

import stillmotion.config.capped

import contextlib
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
import numpy as np
import pytest
import torch

from stillmotion.stage import run_stage

# A machine that is busy with something else is no counterexample.
hypothesis.settings.register_profile("any speed", deadline=None)
hypothesis.settings.load_profile("any speed")

sys.path.append(str(Path(__file__).parent))  # for web_server.py and tiny_video_llms.py
SCRIPTS = Path(__file__).resolve().parents[1] / "src"
REAL_MATERIAL = Path(__file__).resolve().parents[2] / "shared" / "real"


@pytest.fixture(scope="session")
def real_material() -> Path:
    """Files from public repositories that stand beside the checkout; see its README.md."""
    if not REAL_MATERIAL.is_dir():
        pytest.skip(f"no real material: {REAL_MATERIAL} does not exist")
    return REAL_MATERIAL


@pytest.fixture(scope="session")
def main_of() -> Callable[[str], Callable[..., None]]:
    """The `main` of a stage script by its name: called in this process, it takes no start."""

    def load(name: str) -> Callable[..., None]:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        return script.main

    return load


@contextlib.contextmanager
def printed_into(out: Path, err: Path) -> Iterator[None]:
    """What this process and those that it starts print goes into two files."""
    with (
        contextlib.ExitStack() as stack,
        out.open("w", encoding="utf-8", buffering=1) as new_out,
        err.open("w", encoding="utf-8", buffering=1) as new_err,
    ):
        for number, file in ((1, new_out), (2, new_err)):
            before = os.dup(number)
            stack.callback(os.close, before)
            stack.callback(os.dup2, before, number)
            os.dup2(file.fileno(), number)
        with contextlib.redirect_stdout(new_out), contextlib.redirect_stderr(new_err):
            yield


@pytest.fixture(scope="session")
def run_script(
    main_of: Callable[[str], Callable[..., None]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A stage script as a command: its options, one-line errors and status, but in this process, without its start.

    What it starts itself is started, and a bug in it is raised here. Every script is started as a process too, by
    test_starts.py and in the pipeline.
    """
    printed = tmp_path_factory.mktemp("printed")

    def run(
        name: str, *options: str | Path, cwd: Path, env: Mapping[str, str] = os.environ
    ) -> subprocess.CompletedProcess[str]:
        command = [str(SCRIPTS / f"{name}.py"), *map(str, options)]
        root, ours = logging.getLogger(), logging.getLogger("stillmotion")
        handlers, levels = root.handlers, (root.level, ours.level)
        threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
        root.handlers = []  # pytest's, which `run_stage` would close
        out, err = printed / "out", printed / "err"
        status = 0
        try:
            with (
                contextlib.chdir(cwd),
                mock.patch.dict(os.environ, dict(env), clear=True),
                mock.patch.object(sys, "argv", command),
                printed_into(out, err),
            ):
                try:
                    run_stage(main_of(name))
                except SystemExit as end:
                    status = end.code if isinstance(end.code, int) else 1
        finally:
            root.handlers = handlers
            root.setLevel(levels[0])
            ours.setLevel(levels[1])
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(deterministic)
        return subprocess.CompletedProcess(
            command, status, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")
        )

    return run


@pytest.fixture
def site() -> Iterator[Any]:
    """A web server on loopback that misbehaves as it is told to: a `Site` of tests/web_server.py, at `site.url`."""
    from web_server import Site, serving

    with serving(Site()) as running:
        yield running


@pytest.fixture
def spoil() -> Callable[[Path], int]:
    """Changes one bit in the middle of each entry of a memo, as a bad disk does; how many there were."""

    def change(memo: Path) -> int:
        entries = [path for path in memo.rglob("*") if path.is_file()]
        for entry in entries:
            content = bytearray(entry.read_bytes())
            content[len(content) // 2] ^= 1
            entry.unlink()  # of an out that is a link to it nothing changes
            entry.write_bytes(content)
        return len(entries)

    return change


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """A stage that ran in this process flushes denormal numbers from then on, which hypothesis refuses to work with."""
    yield
    torch.set_flush_denormal(False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `real` where the real material is not there."""
    if not REAL_MATERIAL.is_dir():
        reason = f"no real material: {REAL_MATERIAL} does not exist"
        for item in items:
            if "real" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def make_system() -> Callable[..., dict[str, Any]]:
    """A system of a run by its fields, with what it measured; its key says the fields for a reader of the test alone.

    `recalls` are R@1, or R@1 and R@5, of every query by number of clips, `windows` rows of queries.jsonl, `spans` rows
    of spans.jsonl.
    """

    def make(task: str = "retrieval", base: str | None = "clip", **changes: Any) -> dict[str, Any]:
        fields: dict[str, Any] = dict.fromkeys(("expansion", "pretraining", "recipe", "seed", "scorer"))
        plain: dict[str, Any] = {"metrics": {}, "protocol": {}, "recalls": {}, "windows": [], "spans": []}
        system = {"task": task, "base": base} | fields | plain | changes
        parts = [system[name] for name in ("expansion", "recipe", "seed", "scorer")]
        parts.insert(1, system["pretraining"] and system["pretraining"]["dataset"])
        system.setdefault("key", "-".join(str(part) for part in [base, *parts] if part is not None))
        system.setdefault("model", "-".join(str(part) for part in [base, *parts[:-1]] if part is not None))
        return system

    return make


@pytest.fixture
def make_evidence() -> Callable[..., Any]:
    """Evidence of systems made by `make_system`, and of nothing else but what is named."""
    from stillmotion.claims.compare import Draws
    from stillmotion.claims.evidence import Coverage, Evidence, Query
    from stillmotion.claims.studies import study_of
    from stillmotion.claims.systems import systems_frame, values_frame

    fields = ("model", "base", "expansion", "pretraining", "recipe", "seed", "scorer")
    measured = {"retrieval": {"t2v": {}, "v2t": {}, "by_num_clips": {}}, "moments": {}, "assessment": {}}
    measured |= {"actions": {"zero_shot": {}, "top1": {}}, "resources": {}}

    def ranks_of(recalls: dict[int, Any], num: int) -> list[dict[str, Any]]:
        by_clips = {}
        for clips, found in recalls.items():
            one, five = found if isinstance(found, tuple) else (found, found)
            # of a hundred seeds so many are right that each query has the recall
            by_clips[str(clips)] = [1.0] * one + [5.0] * (five - one) + [9.0] * (100 - five)
        return [{"rank_by_num_clips": by_clips} for _ in range(num if recalls else 0)]

    def make(*systems: dict[str, Any], params: Any = None, dataset: str = "toy", num: int = 20, **found: Any) -> Any:
        metrics: dict[str, dict[str, Any]] = {}
        for one in systems:
            content = measured[one["task"]] | one["metrics"] | {"system": {name: one[name] for name in fields}}
            metrics.setdefault(one["task"], {})[one["key"]] = content | {"protocol": one["protocol"]}
        frame = systems_frame(metrics, params or REPORT_PARAMS)
        by_key = {one["key"]: one for one in systems}
        study = {"dataset": dataset, "model": "clip", "aggregator": "mean", "recall_at": 1}
        contents = {name: {"name": name, "title": name} | study | row for name, row in found.pop("studies", {}).items()}
        defaults: dict[str, Any] = {"recipe": "half", "architectures": {}, "first_shows": {}, "searches": {}}
        return Evidence(
            dataset=dataset,
            systems=frame,
            values=values_frame(
                frame,
                ranks={key: ranks_of(one["recalls"], num) for key, one in by_key.items()},
                windows={key: one["windows"] for key, one in by_key.items()},
                spans={key: one["spans"] for key, one in by_key.items()},
            ),
            windows={key: one["windows"] for key, one in by_key.items()},
            queries=[Query(*query) for query in found.pop("queries", [])],
            coverage=Coverage("clip", np.array(found.pop("coverage", []), dtype=str)),
            studies={name: study_of(content) for name, content in contents.items()},
            draws=Draws(0, 400),
            **defaults | found,
        )

    return make


_RECIPE = {"captions": "paragraph", "similarity": "cosine", "tau": 20.0, "patch_keep_rate": 0.5, "frozen_blocks": 0}
_INTERACTION = {"kind": "interaction", "dual_softmax": False}
REPORT_PARAMS: dict[str, Any] = {
    "recipes": {
        "half": _RECIPE,
        "all": _RECIPE | {"patch_keep_rate": 1.0},
        "mug": _RECIPE | {"similarity": "mug"},
        "mug_cosine": _RECIPE | {"similarity": "mug_cosine", "tau": 5.0},
        "motions": _RECIPE | {"captions": "class_names"},
    },
    "scorers": {
        "mean": {"kind": "mean"},
        "transformer_mean": {"kind": "transformer_mean"},
        "class_token": {"kind": "class_token"},
        "own": {"kind": "own"},
        "cosine": _INTERACTION | {"interaction": "mean_pooling"},
        "mug": _INTERACTION | {"interaction": "mutual"},
        "mug_cosine": _INTERACTION | {"interaction": "mutual_cosine"},
        "mug_dual_softmax": _INTERACTION | {"interaction": "mutual", "dual_softmax": True},
    },
    "expansions": {
        "xclip": {"family": "xclip"},
        "stan": {"family": "stan", "class_token": "clip"},
        "stan_conv": {"family": "stan", "class_token": "clip"},
        "stan_frame": {"family": "stan", "class_token": "frame"},
        "seq_lstm": {"family": "clip4clip", "head": "seq_lstm"},
        "tight": {"family": "clip4clip", "head": "tight_transformer"},
    },
    "selections": {},
    "shot_detectors": {},
}
"""Blocks of params.yaml that the systems of tests are made of."""


@pytest.fixture
def make_query() -> Callable[..., dict[str, Any]]:
    """A row of queries.jsonl; `iou` is that of the top window and of the frames, and the average precision."""

    def make(qid: int, iou: float, *, true: Any = ((4.0, 20.0),), **changes: Any) -> dict[str, Any]:
        plain = {"qid": qid, "query": f"q{qid}", "vid": f"v{qid}", "duration": 60.0}
        plain |= {"true_windows": [list(window) for window in true], "predicted_windows": [[4.0, 20.0, 0.5]]}
        return plain | {"top1_iou": iou, "average_precision": iou, "frame_iou": iou} | changes

    return make


@pytest.fixture
def moment_metrics() -> dict[str, Any]:
    """The metrics file of a system of moment retrieval, without its protocol."""
    brief = {"MR-full-R1@0.5": 53.94, "MR-full-R1@0.7": 34.84, "MR-full-mAP": 32.2}
    brief |= {"MR-short-mAP": 3.28, "MR-middle-mAP": 32.3, "MR-long-mAP": 41.11}
    intervals = {"MR-full-R1@0.5": [50.0, 58.0], "MR-full-mAP": [30.0, 34.0], "mIoU": [45.0, 51.0]}
    numbers = {"mIoU": 48.57, "frames": {"IoU": 41.06}, "num_empty": 3, "coverage": 71.23, "selected_share": 22.22}
    return {"brief": brief, "full": {}, "ci95": intervals | {"frames IoU": [39.0, 43.0]}} | numbers


@pytest.fixture
def make_selection(make_system: Any, make_query: Any, moment_metrics: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """A selection with the IoUs of its queries: `make_selection("vc1", "norm", [0.2, 0.6])`."""

    def make(
        method: str, post: str, ious: Sequence[float], *, objective: str = "R1@0.5", metrics: Any = None, **more: Any
    ) -> dict[str, Any]:
        searched: dict[str, Any] = {"method": method, "post_processing": post, "objective": objective}
        searched |= {"best_value": 55.27, "parameters": {"threshold": 0.61234567}, "importances": {}}
        protocol = {"kind": "selection", "thresholds": searched, "frames_from": "selection"}
        scorer = f"{method}_{post}" + ("" if objective == "R1@0.5" else "_frames")
        rows = [make_query(qid, iou) for qid, iou in enumerate(ious)]
        plain = {"scorer": scorer, "protocol": protocol, "windows": rows, "metrics": moment_metrics | (metrics or {})}
        return make_system("moments", **plain | more)

    return make
