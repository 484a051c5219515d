"""What it costs to start: processor seconds until a command has its imports, and after its work is done.

    python -m benchmarks.starts
    python -m benchmarks.starts --other ../clone-of-an-older-commit --stages

`help` is `python src/<script>.py --help`, the median of three, beside `import open_clip` and `search --help`. With
`--stages` a clone of the commit runs every stage of the default `dvc repro`, on few and small videos and with little
training, as it imports the same; each process notes what its imports took, wherever they stand: `starts` is that with
the interpreter's own start and its end. `search` is `stillmotion search` in what that made. Processes that decode
videos beside a stage are not counted. With `--other` all is done for another checkout too, with this environment.
Writes benchmarks/results/starts.json.
"""

import functools
import json
import operator
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import ruamel.yaml
import typer

from stillmotion.io.tables import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "starts.json"
REPEATS = 3
SEARCH = [sys.executable, "-c", "from stillmotion.cli import main; main()", "search"]

# Where modules are compiled once and not at each start, as on a user's machine.
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

# Of the default params: what makes the work small. Another commit may have other names.
TINY = {
    "download.generated.toy.num_train": 24,
    "download.generated.toy.num_validation": 8,
    "download.generated.toy.num_test": 12,
    "download.generated.toy.min_duration": 10.0,
    "download.generated.toy.max_duration": 16.0,
    "backbones.small_clip.steps": 6,
    "recipes.patch_dropout.epochs": 1,
    "train_aggregator.epochs": 2,
    "optimise_thresholds.trials": 10,
    "optimise_thresholds.sensitivity_points": 3,
    "linear_probe.seeds": [0, 1],
    "measure_resources.repeats": 1,
}

# Python runs a sitecustomize at its start. This one times the imports of a stage's script, outermost ones alone.
WATCH = """
import atexit, builtins, json, os, resource, sys, threading, time

if len(sys.orig_argv) > 1 and sys.orig_argv[1].startswith("src/"):
    def processor_s(who=resource.RUSAGE_SELF):
        used = resource.getrusage(who)
        return used.ru_utime + used.ru_stime

    of_thread = threading.local()
    imports_s, started_s, find, leave = 0.0, processor_s(), builtins.__import__, os._exit

    def timed_import(*arguments, **named):
        global imports_s
        if getattr(of_thread, "imports", False):
            return find(*arguments, **named)
        of_thread.imports, before = True, time.thread_time()
        try:
            return find(*arguments, **named)
        finally:
            of_thread.imports = False
            imports_s += time.thread_time() - before

    def note():
        worked_s = processor_s() + processor_s(resource.RUSAGE_CHILDREN)
        row = {"pid": os.getpid(), "imports_s": imports_s, "started_s": started_s, "worked_s": worked_s}
        with open(os.environ["STARTS_LOG"], "a") as file:
            file.write(json.dumps(row) + chr(10))

    def note_and_leave(status):
        note()
        leave(status)

    builtins.__import__ = timed_import
    os._exit = note_and_leave
    atexit.register(note)
"""

# `python` of dvc's commands: runs the real one, and notes what it used until its very end.
PYTHON = """#!{python}
import json, os, resource, sys

child = os.spawnv(os.P_NOWAIT, {python!r}, [{python!r}, *sys.argv[1:]])
_, status, used = os.wait4(child, 0)
row = {{"pid": child, "script": sys.argv[1] if len(sys.argv) > 1 else "", "all_s": used.ru_utime + used.ru_stime}}
with open(os.environ["STARTS_LOG"], "a") as file:
    file.write(json.dumps(row) + chr(10))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def processor_s(command: list[str], folder: Path) -> float:
    """Seconds of the processor that a command uses, from its start to its end."""
    environment = COMPILED | {"PYTHONPATH": str(folder / "src")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def median_s(command: list[str], folder: Path) -> float:
    return statistics.median(processor_s(command, folder) for _ in range(REPEATS))


def help_of(checkout: Path) -> dict[str, float]:
    """Seconds of `--help`, by script."""
    scripts = sorted(path.name for path in (checkout / "src").glob("*.py"))
    return {name: median_s([sys.executable, f"src/{name}", "--help"], checkout) for name in scripts}


def stages_of(clone: Path) -> dict[str, Any]:
    """What starts take in the default run, by script."""
    folder = clone.parent
    log, bin_folder = folder / "log", folder / "bin"
    reader = ruamel.yaml.YAML()
    params = reader.load(clone / "params.yaml")
    for key, value in TINY.items():
        *sections, last = key.split(".")
        try:
            functools.reduce(operator.getitem, sections, params)[last] = value
        except KeyError:
            print(f"{key}: not among the params of this commit", flush=True)
    reader.dump(params, clone / "params.yaml")
    bin_folder.mkdir()
    for name, text in (("sitecustomize.py", WATCH), ("python", PYTHON.format(python=sys.executable))):
        (bin_folder / name).write_text(text, encoding="utf-8")
    (bin_folder / "python").chmod(0o755)
    path = f"{bin_folder}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = COMPILED | {
        "PATH": path,
        "PYTHONPATH": str(bin_folder),
        "STARTS_LOG": str(log),
        "STILLMOTION_MEMO": str(folder / "memo"),
    }
    with (folder / "repro").open("w", encoding="utf-8") as out:
        subprocess.run(["dvc", "repro"], cwd=clone, env=environment, check=True, stdout=out, stderr=subprocess.STDOUT)
    of_process: dict[int, dict[str, Any]] = defaultdict(dict)
    for line in log.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        of_process[row["pid"]] |= row
    by_script: dict[str, list[float]] = defaultdict(list)
    for row in of_process.values():
        at_end = row["all_s"] - row["worked_s"]
        by_script[Path(row["script"]).name].append(row["started_s"] + row["imports_s"] + at_end)
    return {
        "instances": sum(map(len, by_script.values())),
        "starts_s": sum(map(sum, by_script.values())),
        "processes_s": sum(row["all_s"] for row in of_process.values()),
        "mean_s": {name: statistics.mean(found) for name, found in sorted(by_script.items())},
        "search_s": median_s([*SEARCH, "a red circle moves left", "--json"], clone),
    }


def measure(checkout: Path, *, stages: bool) -> dict[str, Any]:
    """Everything about a checkout's commit, in a clone."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(checkout), str(clone)], check=True)
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=clone, capture_output=True, text=True)
        result: dict[str, Any] = {"commit": commit.stdout.strip(), "help_s": help_of(clone)}
        result["search_help_s"] = median_s([*SEARCH, "--help"], clone)
        if stages:
            result["default_run"] = stages_of(clone)
    return result


def main(
    other: Annotated[Path | None, typer.Option(help="another checkout, to compare with")] = None,
    stages: Annotated[bool, typer.Option(help="also run every stage of the default run")] = False,
) -> dict[str, Any]:
    """Measure, write the result, and return it."""
    result: dict[str, Any] = {"cpus": os.cpu_count(), "load_before": os.getloadavg()[0]}
    result["import_open_clip_s"] = median_s([sys.executable, "-c", "import open_clip"], ROOT)
    result["this"] = measure(ROOT, stages=stages)
    if other is not None:
        result["other"] = measure(other.resolve(), stages=stages)
    write_json(RESULT, result, digits=2)
    return result


if __name__ == "__main__":
    typer.run(main)
