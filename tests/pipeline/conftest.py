"""The DAG in clean clones, on a dataset and models so small that all of it runs in about a minute.

`lab` is a clone in which `dvc repro` has run once, committed, for everybody to look at, in every process of the run of
tests. Who changes anything asks for a `clone` of it, which shares its DVC cache and has its own memo.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import filelock
import numpy as np
import pytest
import ruamel.yaml

ROOT = Path(__file__).resolve().parents[2]

TINY: dict[str, Any] = {
    # So small a model is slower on two threads, and much slower on cores that others use too.
    "threads": 1,
    # Every stage, and as few of each as have something to compare: 19 processes.
    "run.backbones": ["small_clip"],
    "run.embedded": ["small_clip", "small_clip-patch_dropout"],
    "finetuned": {"small_clip-patch_dropout": {"from": "small_clip", "recipe": "patch_dropout", "seed": 0}},
    "retrieval": {
        "small_clip-patch_dropout-mean": {"model": "small_clip-patch_dropout", "scorer": "mean"},
        "small_clip-patch_dropout-transformer_mean": {
            "model": "small_clip-patch_dropout",
            "scorer": "transformer_mean",
        },
    },
    "run.probed": ["small_clip-patch_dropout"],
    "run.assessed": ["small_clip-patch_dropout"],
    "run.selected": ["small_clip-patch_dropout"],
    "run.selections": ["vc1_log_smooth_norm"],
    "run.references": ["oracle"],
    "download.generated.toy.num_train": 24,
    "download.generated.toy.num_validation": 8,
    "download.generated.toy.num_test": 12,
    "download.generated.toy.min_duration": 10.0,
    "download.generated.toy.max_duration": 16.0,
    "sample_frames.size_px": 32,
    "sample_frames.num_uniform": 16,
    "backbones.small_clip.image_size_px": 32,
    "backbones.small_clip.width": 32,
    "backbones.small_clip.layers": 1,
    "backbones.small_clip.text_layers": 1,
    "backbones.small_clip.heads": 2,
    "backbones.small_clip.embed_dim": 32,
    "backbones.small_clip.steps": 6,
    "backbones.small_clip.batch_size": 16,
    "embed.clip_frames": 4,
    "embed.clip_counts": [1, 2],
    "recipes.patch_dropout.captions": "paragraph",
    "recipes.patch_dropout.num_frames": 4,
    "recipes.patch_dropout.epochs": 2,
    "recipes.patch_dropout.batch_size": 8,
    "train_aggregator.epochs": 2,
    "train_aggregator.batch_size": 8,
    "train_aggregator.seeds": [0],
    "optimise_thresholds.trials": 10,
    "optimise_thresholds.sensitivity_points": 3,
    "linear_probe.shots": [1, 2],
    "linear_probe.num_c": 3,
    "linear_probe.seeds": [0, 1],
    "evaluate_retrieval.bootstrap_samples": 20,
    "evaluate_moments.bootstrap_samples": 20,
    "evaluate_actions.bootstrap_samples": 20,
    "measure_resources.batch_size": 2,
    "measure_resources.num_frames": 2,
    "measure_resources.repeats": 1,
    "report.num_examples": 1,
}

RESULTS = ("dvc.lock", "metrics", "plots", "reports/results")
"""What `dvc repro` leaves in git: a clone for other params starts without."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests come first: where processes share the files, the long ones must not be the last."""
    here = Path(__file__).parent
    items.sort(key=lambda item: here not in item.path.parents)


@dataclass(frozen=True)
class Run:
    """A command that has ended."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def stages(self) -> list[str]:
        """The stages that dvc says it ran, sorted."""
        lines = [line for line in self.out.splitlines() if line.startswith("Running stage '")]
        return sorted(line.split("'")[1] for line in lines)


@dataclass
class Project:
    """A clone of the repository, with an environment that reaches nothing outside of it."""

    root: Path
    memo: Path
    home: Path
    """Configuration and state of dvc, shared by nothing but these tests."""
    run_script: Callable[..., subprocess.CompletedProcess[str]]
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("STILLMOTION_", "DVC_", "AWS_"))
        }
        if kept.pop("PYTHONDONTWRITEBYTECODE", ""):
            # Each of some hundred processes would compile torch anew.
            kept["PYTHONPYCACHEPREFIX"] = str(self.home / "bytecode")
        return kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(self.home / "global"),
            "DVC_SYSTEM_CONFIG_DIR": str(self.home / "system"),
            "DVC_SITE_CACHE_DIR": str(self.home / "site"),
            "HOME": str(self.home),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            **{
                f"GIT_{who}_{what}": "nobody@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
            },
            "STILLMOTION_MEMO": str(self.memo),
            **self.settings,
        }

    def start(self, *command: str | Path, **settings: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(word) for word in command],
            cwd=self.root,
            env=self.environment | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str | Path, status: int | None = 0, **settings: str) -> Run:
        """Run a command; it must end with `status` (None: any)."""
        started = time.monotonic()
        process = self.start(*command, **settings)
        out, err = process.communicate(timeout=400)
        seconds = time.monotonic() - started
        assert status is None or process.returncode == status, f"{command}: {process.returncode}\n{out}\n{err}"
        return Run(process.returncode, out, err, seconds)

    def dvc(self, *arguments: str | Path, status: int | None = 0, **settings: str) -> Run:
        return self.run("dvc", *arguments, status=status, **settings)

    def git(self, *arguments: str | Path) -> str:
        return self.run("git", *arguments).out

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def stage(self, cmd: str, *, status: int | None = 0, **settings: str) -> Run:
        """Run a stage script without dvc, in this process; `start` makes one of its own, for who wants to kill it."""
        script, *options = cmd.split()
        started = time.monotonic()
        done = self.run_script(script.removesuffix(".py"), *options, cwd=self.root, env=self.environment | settings)
        seconds = time.monotonic() - started
        assert status is None or done.returncode == status, f"{cmd}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Run(done.returncode, done.stdout, done.stderr, seconds)

    def set_params(self, values: Mapping[str, Any]) -> None:
        """Change values of params.yaml; the rest of the file stays as it is written."""
        yaml = ruamel.yaml.YAML()
        params = yaml.load((self.root / "params.yaml").read_text(encoding="utf-8"))
        for dotted, value in values.items():
            *sections, name = dotted.split(".")
            block = params
            for section in sections:
                block = block[section]
            assert name in block, dotted
            block[name] = value
        with (self.root / "params.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(params, file)

    def lock(self) -> dict[str, dict[str, Any]]:
        """The stages of dvc.lock."""
        text = (self.root / "dvc.lock").read_text(encoding="utf-8")
        return ruamel.yaml.YAML(typ="safe", pure=True).load(text)["stages"]

    def digests(self, folder: str | Path) -> dict[str, str]:
        """SHA-256 of each file below a folder, by its path there."""
        top = self.root / folder
        assert top.is_dir(), top
        return {
            file.relative_to(top).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(top.rglob("*"))
            if file.is_file()
        }

    def leftovers(self) -> list[str]:
        """Half-written files and folders anywhere in the clone and its memo."""
        found = [*self.root.rglob("*.partial*"), *self.memo.rglob("*.partial*")]
        return sorted(str(path) for path in found)


def copy_checkout(target: Path) -> None:
    """What git would commit of the checkout as it is now, without the results."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.split("\0"):
        # `.gitignore` files that dvc wrote for its outs come back with these.
        if name and name.split("/")[0] not in (*RESULTS, "tests", "benchmarks") and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of this run of tests have."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def home(shared: Path) -> Path:
    folder = shared / "home"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def unbuilt(
    tmp_path_factory: pytest.TempPathFactory, home: Path, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> Project:
    """A commit of the checkout with the tiny params, in which nothing has run. Read only."""
    root = tmp_path_factory.mktemp("unbuilt") / "stillmotion"
    project = Project(root, root.parent / "memo", home, run_script)
    root.mkdir()
    copy_checkout(root)
    project.set_params(TINY)
    project.git("init", "--quiet", "--initial-branch", "main")
    project.commit("Start")
    return project


@pytest.fixture(scope="session")
def first_run(shared: Path, unbuilt: Project, home: Path) -> tuple[Project, Run]:
    """`lab`, and what `dvc repro` said when it made it; the first process that asks makes it, the others wait."""
    folder = shared / "lab"
    said = folder / "said.json"
    project = Project(folder / "stillmotion", folder / "memo", home, unbuilt.run_script)
    with filelock.FileLock(shared / "lab.lock"):
        if not said.is_file():
            shutil.rmtree(folder, ignore_errors=True)  # another process may have failed
            folder.mkdir()
            unbuilt.git("clone", "--quiet", unbuilt.root, project.root)
            run = project.dvc("repro")
            project.commit("Build")
            said.write_text(json.dumps(dataclasses.asdict(run)), encoding="utf-8")
    return project, Run(**json.loads(said.read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def lab(first_run: tuple[Project, Run]) -> Project:
    """A clone in which `dvc repro` has run. Read only: take a `clone` to change anything."""
    return first_run[0]


def cloned(source: Project, folder: Path) -> Project:
    """A git clone of `source` below `folder`, without outs."""
    folder.mkdir(parents=True, exist_ok=True)
    source.git("clone", "--quiet", source.root, folder / "stillmotion")
    return Project(folder / "stillmotion", folder / "memo", source.home, source.run_script)


@pytest.fixture(scope="session")
def copy_lab(lab: Project) -> Callable[[Path], Project]:
    """Makes a copy of the lab with all its outs below a folder, with the lab's DVC cache and a memo of its own, empty.

    As a clone after `dvc checkout`, which takes seconds.
    """

    def copy(folder: Path) -> Project:
        root = folder / "stillmotion"
        shutil.copytree(lab.root, root, symlinks=True, ignore=left_out)
        config = f"[cache]\n    dir = {lab.root / '.dvc' / 'cache'}\n"
        (root / ".dvc" / "config.local").write_text(config, encoding="utf-8")
        return Project(root, folder / "memo", lab.home, lab.run_script)

    def left_out(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name in ("cache", "tmp")] if Path(folder) == lab.root / ".dvc" else []

    return copy


@pytest.fixture
def clone(copy_lab: Callable[[Path], Project], tmp_path: Path) -> Project:
    """A copy of the lab to change."""
    return copy_lab(tmp_path / "clone")


@pytest.fixture
def bare_clone(lab: Project, tmp_path: Path) -> Project:
    """What a colleague gets: a clone of the lab, no outs, an empty cache, an empty memo."""
    return cloned(lab, tmp_path / "bare")


@pytest.fixture
def workplace(unbuilt: Project, tmp_path: Path) -> Project:
    """A copy of the checkout to run stage scripts in, without dvc."""
    return cloned(unbuilt, tmp_path / "workplace")


def encode_clip(path: Path, *, seed: int = 0, seconds: float = 4.0, rate: int = 8, size_px: int = 64) -> Path:
    """A H.264 file of a square that wanders over noise; each seed is another."""
    rng = np.random.default_rng(seed)
    background = rng.integers(0, 120, (size_px, size_px, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = size_px, size_px, "yuv420p"
        stream.codec_context.time_base, stream.codec_context.thread_count = Fraction(1, rate), 1
        for number in range(round(seconds * rate)):
            image = background.copy()
            left = (number * 3 + seed * 7) % (size_px - 16)
            image[left : left + 16, left : left + 16] = rng.integers(130, 256, 3, dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    return encode_clip
