"""A clone of the tiny DAG to attack: its stages are made undone, its processes killed, its bytes compared."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import ruamel.yaml
from tests.pipeline.conftest import TINY, Project, copy_checkout

from stillmotion.io.memo import DIGITS

STARTS = "dvc starts"
"""Where no stage runs yet, in place of a stage's name."""
START_S = 2.0
STEP_S, LOCK_STEP_S = 0.003, 0.0002
GONE_S = 20.0
"""So long may what a killed run has left take to end."""
UNCOUNTED = "metrics/resources"
"""What is measured, and so is never the same."""
HIDDEN = ("*.partial-*", "*.former-*")

# dvc runs commands by the user's shell, which gives way to a lone command. This one stays, as for a longer one.
SHELL = '#!/bin/sh\n/bin/sh "$@"\nexit $?\n'


@dataclass(frozen=True)
class Kill:
    """A SIGKILL to come."""

    stage: str
    victim: str
    """`stage`, `worker`, `shell`, `dvc`, or `lock`: dvc while it writes dvc.lock."""
    moment: float
    """Fraction of the stage's time."""


@dataclass
class Ended:
    """A run of dvc that has ended."""

    status: int = 0
    text: str = ""
    begun: dict[str, float] = field(default_factory=dict)
    """Seconds after the start at which each stage began, in order."""
    seconds: float = 0.0
    killed_s: float | None = None
    """Seconds after the start of its stage, or of dvc."""
    gone_s: float = 0.0
    """Seconds from dvc's end to that of all it had started."""
    survivors: list[str] = field(default_factory=list)

    @property
    def stage_seconds(self) -> dict[str, float]:
        ends = [*list(self.begun.values())[1:], self.seconds]  # one too many where none began
        return {name: end - begun for (name, begun), end in zip(self.begun.items(), ends, strict=False)}


class Attacked(Project):
    """The clone."""

    @property
    def cache(self) -> Path:
        """The cache of dvc, which may be another clone's."""
        config = self.root / ".dvc" / "config.local"
        where = config.read_text(encoding="utf-8").split(" = ")[-1].strip() if config.exists() else ".dvc/cache"
        return self.root / where

    def copy(self, folder: Path, *, cache: bool = True) -> "Attacked":
        """The clone with its outs once more, with the same memo; without a cache of its own it has this one's."""
        top = self.root / ".dvc"

        def left_out(below: str, names: list[str]) -> list[str]:
            return [name for name in names if name == "tmp" or (name == "cache" and not cache)] * (below == str(top))

        root = folder / "stillmotion"
        shutil.copytree(self.root, root, symlinks=True, ignore=left_out)
        made = Attacked(root, self.memo, self.home, self.run_script)
        if not cache:
            made.use_cache(self.cache)
        return made

    def use_cache(self, folder: Path) -> None:
        (self.root / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {folder}\n", encoding="utf-8")

    def repro(self, kill: Kill | None = None, stage_s: float = START_S, **settings: str) -> Ended:
        """Run dvc as `make repro` does, with a kill on the way in a stage that takes about `stage_s`."""
        mended = self.run("stillmotion", "mend", **settings)
        log, shell = (self.home / f"{name}-{self.root.parent.name}" for name in ("log", "sh"))
        shell.write_text(SHELL, encoding="utf-8")
        shell.chmod(0o755)
        with log.open("w", encoding="utf-8") as out:
            dvc = subprocess.Popen(
                ["dvc", "repro"],
                cwd=self.root,
                env=self.environment | {"SHELL": str(shell), "PYTHONUNBUFFERED": "1"} | settings,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        ended = self._watch(dvc, log, kill, stage_s)
        ended.gone_s, ended.survivors = _wait_for_session(dvc.pid)
        ended.text = mended.text + log.read_text(encoding="utf-8", errors="replace")
        return ended

    def _watch(self, dvc: subprocess.Popen[bytes], log: Path, kill: Kill | None, stage_s: float) -> Ended:
        ended, line, current, lock = Ended(), "", STARTS, self._lock_stamp()
        started = time.monotonic()
        with log.open(encoding="utf-8", errors="replace") as lines:
            while dvc.poll() is None:
                line += lines.readline()
                if line.endswith("\n"):
                    if line.startswith("Running stage '"):
                        current, lock = line.split("'")[1], self._lock_stamp()
                        ended.begun[current] = time.monotonic() - started
                    line = ""
                    continue
                # One whose moment went by, in a stage that was quicker this time, comes in the next stage at once.
                is_late = kill is not None and kill.stage in (STARTS, *ended.begun) and kill.stage != current
                is_here = kill is not None and ended.killed_s is None and (kill.stage == current or is_late)
                if kill is not None and is_here:
                    since = time.monotonic() - started - ended.begun.get(current, 0.0)
                    of_lock = kill.victim == "lock"
                    is_due = self._lock_stamp() != lock if of_lock else since >= kill.moment * stage_s
                    is_due = is_due or is_late
                    if is_due and _strike(dvc, kill):
                        ended.killed_s = since
                time.sleep(LOCK_STEP_S if is_here and of_lock else STEP_S)
        ended.status, ended.seconds = dvc.returncode, time.monotonic() - started
        return ended

    def _lock_stamp(self) -> tuple[int, int] | None:
        try:
            stat = (self.root / "dvc.lock").stat()
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def undo(self, stages: Collection[str]) -> None:
        """Take from dvc all that it knows of some stages, and their outs."""
        path = self.root / "dvc.lock"
        yaml = ruamel.yaml.YAML()
        lock = yaml.load(path.read_text(encoding="utf-8"))
        removed = [lock["stages"].pop(name) for name in stages if name in lock["stages"]]
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(lock, file)
        commands = {stage["cmd"] for stage in removed}
        for run in self.cache.glob("runs/??/*/*"):
            if yaml.load(run.read_text(encoding="utf-8"))["cmd"] in commands:
                shutil.rmtree(run.parent)
        for place in (self.root / out["path"] for stage in removed for out in stage.get("outs", [])):
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)

    def results(self) -> dict[str, str]:
        """The digest of each file, by its path, and of what dvc.lock says of each stage, but for what is measured."""
        found = {}
        for folder, below, files in os.walk(self.root):
            below[:] = [name for name in below if name not in (".git", ".dvc", "__pycache__", "src")]
            for file in (Path(folder, name) for name in files):
                path = file.relative_to(self.root).as_posix()
                if path != "dvc.lock" and not path.startswith(UNCOUNTED):
                    found[path] = hashlib.sha256(file.read_bytes()).hexdigest()
        for name, stage in self.lock().items():
            for kind in ("deps", "outs"):
                stage[kind] = [file for file in stage.get(kind, []) if not file["path"].startswith(UNCOUNTED)]
            found[f"dvc.lock: {name}"] = hashlib.sha256(json.dumps(stage, sort_keys=True).encode()).hexdigest()
        return found

    def leftovers(self) -> list[str]:
        """Half-written files and folders anywhere in the clone and its memo."""
        found = [path for top in (self.root, self.memo) for name in HIDDEN for path in top.rglob(name)]
        return sorted(path.name for path in found)

    def entries(self) -> list[Path]:
        """The files of the memo."""
        return sorted(path for path in self.memo.rglob("*") if path.is_file() and not path.name.startswith("."))

    def untrue_entries(self) -> list[str]:
        """Those whose content is not what their names say."""
        return [entry.name for entry in self.entries() if not entry.stem.endswith(f"-{_digest(entry)[:DIGITS]}")]

    def spoil(self, entry: Path, fault: str, where: float) -> None:
        """Put other bytes in an entry's place: `flipped`, `cut` or `emptied`. What is linked to it keeps its own."""
        content = bytearray(entry.read_bytes())
        at = int(where * len(content))
        if fault == "flipped":
            content[at] ^= 0x10
        entry.unlink()
        entry.write_bytes({"flipped": content, "cut": content[:at], "emptied": b""}[fault])
        entry.chmod(0o444)


def make_clone(folder: Path) -> Attacked:
    """The checkout with the tiny params, in which nothing has run."""
    (folder / "home").mkdir()
    clone = Attacked(folder / "a" / "stillmotion", folder / "memo", folder / "home", subprocess.run)
    clone.root.mkdir(parents=True)
    copy_checkout(clone.root)
    clone.set_params(TINY)
    clone.git("init", "--quiet", "--initial-branch", "main")
    clone.commit("Start")
    return clone


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _strike(dvc: subprocess.Popen[bytes], kill: Kill) -> bool:
    """Kill the victim; False where it is not there at this moment."""
    if kill.victim in ("dvc", "lock"):
        dvc.kill()
        return True
    try:
        below = psutil.Process(dvc.pid).children(recursive=True)
        stages = {process.pid for process in below if process.cmdline()[1:2] and process.cmdline()[1][:4] == "src/"}
        found = {
            "stage": [process for process in below if process.pid in stages],
            "worker": [process for process in below if process.ppid() in stages],
            "shell": [process for process in below if process.ppid() == dvc.pid and process.pid not in stages],
        }[kill.victim]
        if found:
            found[int(kill.moment * 1000) % len(found)].send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return bool(found)


def _wait_for_session(leader: int) -> tuple[float, list[str]]:
    """Seconds until all processes of a session have ended, and the command lines of those that have not."""
    started = time.monotonic()
    while True:
        left = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(" ".join(process.cmdline()))
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        if not left or time.monotonic() - started > GONE_S:
            return time.monotonic() - started, left
        time.sleep(0.05)
