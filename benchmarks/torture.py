"""A standing attack on the tiny DAG: whatever befalls a run, the next one ends with the same bytes.

    python -m benchmarks.torture [--kills 50] [--seed 0] [--minutes 15] [--attack memo --attack disks]

One run without trouble says what the bytes are. Then, in clones of it, by the seed:

- `memo`: bytes of the memo's entries flipped, entries cut and emptied: each is told and remade;
- `disks`: full disks (small tmpfs, so root's alone) for the memo, TMPDIR, dvc's cache and the outs: a warning, or one
  line and a status that is not 0; with space given, the run goes on;
- `clones`: two clones at once on an empty memo, both killed on the way;
- `kills`: stages, their workers and shells, and dvc are killed, dvc while it writes dvc.lock too, and the run begun
  again until it ends. Each round makes some stages undone, long ones rather than short ones.

After each: the same digests of all outs, metrics (but metrics/resources) and entries of dvc.lock, nothing half-written,
no process left of what was killed, no traceback. Writes benchmarks/results/torture.json; the exit status is 1 where
anything deviates. Times are of the machine as loaded as it says.
"""

import os
import random
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.attacked import START_S, STARTS, Attacked, Ended, Kill, make_clone
from benchmarks.small_disk import resize, small_disk, used
from stillmotion.io.tables import write_json

RESULT = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "torture.json"
ATTACKS = ("memo", "disks", "clones", "kills")
UNDONE, KILLS = 4, 7
"""Stages made undone and kills of a round."""
EARLY = 0.7
"""Of a stage's time: it is shorter where the machine is less busy, and from the memo."""
VICTIMS = {"stage": 4, "dvc": 3, "lock": 2, "shell": 1}
WORKERS = {"worker": 6}
LONG = {"backbone": 4, "finetune": 3, "embed": 3, "optimise_thresholds": 3, "measure_resources": 2, "report": 2}
"""How much rather than other stages these are chosen: about their seconds on a quiet machine."""
WITH_WORKERS = ("download", "sample_frames")
WITH_MEMO = (*WITH_WORKERS, "backbone", "finetune", "embed")
SPOILT, FAULTS = 12, ("flipped", "cut", "emptied")
TOLD_OF_ENTRY = "not the bytes that were stored there; removed, and made anew"
TOLD_OF_MEMO = "the memo can't be used (no space left on device)"
# The last is dvc's word for a copy from its cache that fails.
TOLD_OF_DISK = re.compile(r"error: .*no space left on device|No space left on device|No possible cache link", re.I)


@dataclass
class Torture:
    """What the attacks share, and what has come of them."""

    clone: Attacked
    untouched: Attacked
    """A copy of it, as the run without trouble left it."""
    results: Mapping[str, str]
    seconds: dict[str, float]
    """Of each stage, in the order of the run, when it last came to its end."""
    rng: random.Random
    deadline: float
    tried: list[dict[str, Any]] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)

    @property
    def struck(self) -> int:
        return sum(row["victim"] is not None and row["at_s"] is not None for row in self.tried)

    def note(
        self, attack: str, where: str, followed: str, victim: str | None = None, at_s: float | None = None
    ) -> None:
        self.tried.append({"attack": attack, "where": where, "victim": victim, "at_s": at_s, "followed": followed})
        moment = "" if at_s is None else f" after {at_s:.2f} s"
        print(f"{attack:6} {where}{f', {victim} killed' if victim else ''}{moment}: {followed}", flush=True)

    def deviate(self, text: str) -> None:
        self.deviations.append(text)
        print(f"DEVIATION {text}", flush=True)

    def check_ended(self, ended: Ended, what: str) -> None:
        self.seconds |= dict(list(ended.stage_seconds.items())[:-1])
        if ended.survivors:
            self.deviate(f"{what}: still running {ended.gone_s:.0f} s after dvc: {'; '.join(ended.survivors)}")
        if "Traceback (most recent call last)" in ended.text:
            self.deviate(f"{what}: a traceback:\n{ended.text[-3000:]}")

    def finish(self, clone: Attacked, what: str, **settings: str) -> Ended:
        """Run to the end without trouble, and compare."""
        ended = clone.repro(**settings)
        self.check_ended(ended, what)
        if ended.status:
            self.deviate(f"{what}: the run after it ends with {ended.status}:\n{ended.text[-3000:]}")
            self.restore()
            return ended
        if not self.compare(clone, what):
            self.restore()
        return ended

    def compare(self, clone: Attacked, what: str) -> bool:
        """Whether all is as after the run without trouble; what is not is a deviation each."""
        found, known = clone.results(), len(self.deviations)
        for path in sorted(path for path in {*self.results, *found} if self.results.get(path) != found.get(path)):
            self.deviate(f"{what}: {path} is {'another' if path in found else 'not there'}")
        for name in clone.leftovers():
            self.deviate(f"{what}: {name} is left")
        for name in clone.untrue_entries():
            self.deviate(f"{what}: entry {name} of the memo is not what its name says")
        return len(self.deviations) == known

    def restore(self) -> None:
        """Begin with what the run without trouble left, so that what comes then says nothing of what went before."""
        shutil.rmtree(self.clone.memo, ignore_errors=True)
        shutil.rmtree(self.clone.root.parent)
        self.untouched.copy(self.clone.root.parent)

    def of_scripts(self, scripts: Sequence[str]) -> list[str]:
        return [stage for stage in self.seconds if stage.split("@")[0] in scripts]

    def choose_stages(self) -> list[str]:
        """Some stages, long ones rather than short ones, in the order of the run."""
        keys = {stage: self.rng.random() ** (1 / _weight(stage)) for stage in self.seconds}
        chosen = sorted(keys, key=lambda stage: keys[stage])[-UNDONE:]
        return [stage for stage in self.seconds if stage in chosen]

    def choose_kills(self, stages: Sequence[str], count: int) -> list[Kill]:
        """Kills in the order of the run, as what is killed begins again."""
        places = [STARTS, *stages]
        kills = []
        for place in self.rng.choices(places, [_weight(place) for place in places], k=count):
            victims = VICTIMS | (WORKERS if place.split("@")[0] in WITH_WORKERS else {})
            (victim,) = self.rng.choices(list(victims), list(victims.values()))
            kills.append(Kill(place, "dvc" if place == STARTS else victim, self.rng.random()))
        return sorted(kills, key=lambda kill: places.index(kill.stage))

    def kill(self, clone: Attacked, kills: Sequence[Kill], attack: str) -> None:
        """Run and kill, again and again."""
        for kill in kills:
            if time.monotonic() > self.deadline:
                return
            ended = clone.repro(kill, EARLY * self.seconds.get(kill.stage, START_S))
            what = f"{attack}, {kill.victim} of {kill.stage}"
            self.check_ended(ended, what)
            struck = ended.killed_s is not None
            if ended.status and not struck:
                self.deviate(f"{what}: the run ends with {ended.status} before it is killed:\n{ended.text[-3000:]}")
            if struck and not ended.status and kill.victim != "worker":
                self.deviate(f"{what}: the run ends with 0 though that was killed")
            came = f"ended with {ended.status}, all gone {ended.gone_s:.1f} s later" if struck else "had ended before"
            told = ", dvc.lock was cut and mended before" if "dvc.lock: cut short" in ended.text else ""
            self.note(attack, kill.stage, came + told, kill.victim, ended.killed_s)
            if not struck:
                return  # it is at its end

    def kills(self, count: int) -> None:
        while self.struck < count and time.monotonic() < self.deadline:
            stages = self.choose_stages()
            if self.rng.random() < 0.5:
                shutil.rmtree(self.clone.memo, ignore_errors=True)
            self.clone.undo(stages)
            self.kill(self.clone, self.choose_kills(stages, min(KILLS, count - self.struck)), "kills")
            self.finish(self.clone, f"kills, then the rest of {', '.join(stages)}")

    def clones(self, count: int) -> None:
        """Two clones on one memo, `count` kills in each."""
        stages = self.of_scripts(WITH_MEMO)
        other = self.clone.copy(self.clone.root.parents[1] / "b")
        shutil.rmtree(self.clone.memo, ignore_errors=True)
        kills = {clone.root: self.choose_kills(stages, count) for clone in (self.clone, other)}

        def run(clone: Attacked) -> None:
            clone.undo(stages)
            self.kill(clone, kills[clone.root], "clones")
            self.check_ended(clone.repro(), "clones")

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(run, (self.clone, other)))
        for clone in (self.clone, other):
            self.finish(clone, f"clones, clone {clone.root.parent.name}")
            self.note("clones", f"clone {clone.root.parent.name}", "compared")
        shutil.rmtree(other.root.parent)

    def memo(self) -> None:
        self.clone.undo(self.of_scripts(WITH_MEMO))
        entries = self.clone.entries()
        kinds = sorted({entry.parent.parent.name for entry in entries})
        spoilt = []
        for number in range(SPOILT):  # each kind, though the one has two entries and the other a hundred
            of_kind = [entry for entry in entries if entry.parent.parent.name == kinds[number % len(kinds)]]
            entry = self.rng.choice(of_kind)
            if entry not in spoilt:
                spoilt.append(entry)
                fault = FAULTS[number // len(kinds) % len(FAULTS)]
                self.clone.spoil(entry, fault, self.rng.random())
                self.note("memo", f"{kinds[number % len(kinds)]}, an entry {fault}", "to be told")
        ended = self.finish(self.clone, "memo, entries spoilt")
        missed = [entry.name for entry in spoilt if f"{entry}: {TOLD_OF_ENTRY}" not in ended.text]
        if missed:
            self.deviate(f"memo: not told of {', '.join(missed)}:\n{ended.text[-3000:]}")
        self.note("memo", f"{len(spoilt)} entries", f"{len(spoilt) - len(missed)} told, compared")

    def disks(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.clone.root.parents[1]) as folder, small_disk(Path(folder)) as disk:
            if disk is None:
                self.note("disks", "all", "skipped: only root can mount a small disk")
                return
            self._full_memo(disk)
            for name in ("TMPDIR", "cache"):
                self._full_beside(disk, name)
            for number in range(2):
                self._full_outs(disk / f"outs-{number}")

    def _full_memo(self, disk: Path) -> None:
        size = resize(disk, self.rng.randrange(2**16, 2**22))
        self.clone.undo(self.of_scripts(WITH_MEMO))
        other = Attacked(self.clone.root, disk / "memo", self.clone.home, self.clone.run_script)
        ended = self.finish(other, "disks, memo on a full one")
        if TOLD_OF_MEMO not in ended.text:
            self.deviate(f"disks: no warning of a memo on a full one:\n{ended.text[-3000:]}")
        self.note("disks", f"memo, {size} bytes", f"ended with {ended.status}, compared")
        shutil.rmtree(disk / "memo", ignore_errors=True)

    def _full_beside(self, disk: Path, name: str) -> None:
        """A full disk for what is no result."""
        folder = disk / name
        folder.mkdir()
        size = resize(disk, self.rng.randrange(2**14, 2**19))
        self.clone.undo(self.of_scripts(WITH_MEMO))
        if name == "cache":
            self.clone.use_cache(folder)
        settings = {"TMPDIR": str(folder)} if name == "TMPDIR" else {}
        self._fail(self.clone, f"{name}, {size} bytes", disk, **settings)
        (self.clone.root / ".dvc" / "config.local").unlink(missing_ok=True)
        shutil.rmtree(folder)

    def _full_outs(self, folder: Path) -> None:
        """The whole clone, on a disk that has no room for some of what is undone."""
        disk = folder.parent
        stages = self.of_scripts(WITH_MEMO)
        resize(disk, 2**31)
        other = self.clone.copy(folder, cache=False)
        whole = used(disk)
        other.undo(stages)
        size = resize(disk, used(disk) + int(self.rng.uniform(0.05, 0.9) * (whole - used(disk))))
        self._fail(other, f"outs, {size - used(disk)} bytes of {whole - used(disk)}", disk)
        shutil.rmtree(folder)

    def _fail(self, clone: Attacked, where: str, disk: Path, **settings: str) -> None:
        ended = clone.repro(**settings)
        self.check_ended(ended, f"disks, {where}")
        if ended.status and not TOLD_OF_DISK.search(ended.text):
            self.deviate(f"disks, {where}: ends with {ended.status} and no line that says why:\n{ended.text[-3000:]}")
        for name in clone.leftovers():
            self.deviate(f"disks, {where}: {name} is left")
        said = TOLD_OF_DISK.search(ended.text)
        resize(disk, 2**31)
        self.finish(clone, f"disks, {where}, then space", **settings)
        self.note("disks", where, f"ended with {ended.status} ({said[0] if said else 'all had room'}), then compared")


def _weight(place: str) -> int:
    return LONG.get(place.split("@")[0], 1)


def summary(tried: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table: by attack and victim, how often it was tried and how often it came in time."""
    rows = Counter((row["attack"], row["victim"] or "-") for row in tried)
    struck = Counter((row["attack"], row["victim"] or "-") for row in tried if row["at_s"] is not None)
    lines = [f"{'attack':8} {'killed':8} {'tried':>6} {'struck':>6}"]
    return lines + [f"{key[0]:8} {key[1]:8} {rows[key]:6} {struck[key] or '-':>6}" for key in sorted(rows)]


def main(
    kills: Annotated[int, typer.Option(min=1, help="processes to kill, in all")] = 50,
    seed: Annotated[int, typer.Option(help="of the choice of attacks")] = 0,
    minutes: Annotated[float, typer.Option(help="no further kill after so long")] = 15.0,
    attack: Annotated[list[str] | None, typer.Option(help=f"some of {', '.join(ATTACKS)}; all by default")] = None,
) -> dict[str, Any]:
    """Attack, write what was tried, and end with 1 where anything deviates."""
    started, load = time.monotonic(), os.getloadavg()[0]
    chosen = attack or ATTACKS
    if not set(chosen) <= set(ATTACKS):
        raise typer.BadParameter(f"attacks are {', '.join(ATTACKS)}")
    with tempfile.TemporaryDirectory() as folder:
        clone = make_clone(Path(folder))
        ended = clone.repro()
        assert ended.status == 0, ended.text
        rng, results = random.Random(seed), clone.results()
        untouched = clone.copy(Path(folder) / "untouched")
        torture = Torture(clone, untouched, results, ended.stage_seconds, rng, started + 60 * minutes)
        torture.note("none", "the run without trouble", f"{len(results)} digests in {ended.seconds:.0f} s")
        for name in (name for name in ATTACKS if name in chosen):
            began = time.monotonic()
            if name == "kills":
                torture.kills(kills)
            elif name == "clones":
                torture.clones(min(3, max(1, kills // 10)))
            else:
                getattr(torture, name)()
            print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)
        deviations = [text.replace(folder, "") for text in torture.deviations]
    print("\n".join(summary(torture.tried)))
    result = {
        "cpus": os.cpu_count(),
        "load": {"before": load, "after": os.getloadavg()[0]},
        "seed": seed,
        "kills": torture.struck,
        "seconds": time.monotonic() - started,
        "deviations": deviations,
        "tried": torture.tried,
    }
    write_json(RESULT, result, digits=2)
    print(f"{torture.struck} kills, {len(deviations)} deviations, {result['seconds']:.0f} s, load {load:.1f}")
    if deviations:
        raise typer.Exit(1)
    return result


if __name__ == "__main__":
    typer.run(main)
