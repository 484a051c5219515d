"""Experiments in git and in dvc's queue: what is committed, queued, running, done, and what came out."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stillmotion.errors import InputError
from stillmotion.experiments.plan import PlannedRun

VERSIONED = ("src", "params.yaml", "dvc.yaml", "experiments")
"""What decides the results, beside the data: an experiment must have it from its commit."""
WEIGHTS = "data/weights"
CHECK_S = 30.0
"""Seconds between two looks at the queue while it runs; a look takes some two of them."""
MAX_IDLE_CHECKS = 10
"""After so many looks in a row that saw no worker at work, workers are started again, and what they ran is ended: many,
as a worker on a busy machine does not answer every look in time."""
MAX_STARTS_IN_VAIN = 3
RETRIES_S = (1.0, 5.0)
"""Seconds to wait before another look at the queue where one failed, as it may while a worker writes there."""

_TASK = re.compile(r"(?P<rev>[0-9a-f]{7}) +(?P<name>\S+) .* (?P<status>Queued|Running|Failed|Success)")
_WORKERS = re.compile(r"Worker status: (?P<active>\d+) active")
_STAGE_ERROR = re.compile(r"\w+: error: ")
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Interrupt|Exit)\b")


@dataclass(frozen=True)
class Task:
    """An entry of `dvc queue status`."""

    rev: str
    name: str
    status: str

    @property
    def ended(self) -> bool:
        """That it will not run again; whether it has results, its experiment shows."""
        return self.status in ("Failed", "Success")


def current_commit(dataset: str) -> str:
    """The commit that the experiments start from.

    Raises:
        InputError: there is none, the code, the params or the dataset differ from it, or the experiments, which see
            files of git and dvc alone, would not find the videos of the dataset.
    """
    if _git("rev-parse", "--git-dir") is None:
        raise InputError("this is no git repository, and experiments are commits; run this in a clone of the project")
    commit = _git("rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        raise InputError("this git repository has no commit for experiments to start from; commit the project first")
    sources = f"data/sources/{dataset}"
    if _git("status", "--porcelain", "--", f"{sources}.dvc"):
        raise InputError(
            f"{sources}.dvc: dvc has the dataset and git not, from which experiments take it; "
            f"git add {sources}.dvc {Path(sources).parent / '.gitignore'} && git commit, or stillmotion add {sources}"
        )
    changed = _git("status", "--porcelain", "--", *VERSIONED) or ""
    # Of the dataset too: an experiment takes it as it lies there.
    changed += _git("status", "--porcelain", "--untracked-files=no", "--", sources) or ""
    if changed:
        names = ", ".join(line[3:] for line in changed.splitlines())
        raise InputError(f"not committed: {names}; an experiment has its name by its commit: commit them first")
    if not Path(f"{sources}.dvc").exists() and _untracked(sources):
        raise InputError(f"{sources}: experiments see files of git and dvc alone; stillmotion add {sources}")
    if Path(f"{sources}.dvc").exists() and Path(sources).exists():
        edited = json.loads(_dvc("data", "status", "--json", sources)).get("uncommitted", {})
        if edited.get("modified"):
            raise InputError(
                f"{sources}: edited since it was added, and an experiment has its name by its commit; "
                f"stillmotion add {sources}"
            )
    return commit.strip()


def _git(*arguments: str) -> str | None:
    """What git prints; None where it fails."""
    run = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return run.stdout if run.returncode == 0 else None


def _untracked(folder: str) -> list[str]:
    """Files and folders there that neither git nor dvc tracks."""
    listed = (_git("ls-files", "-z", "--others", "--directory", "--", folder) or "").split("\0")
    paths = [path.rstrip("/") for path in listed if path]
    return [path for path in paths if not Path(f"{path}.dvc").exists()]


def finished_experiments(commit: str) -> dict[str, str]:
    """The commit of each experiment that started from `commit` and has results, by name."""
    folder = f"refs/exps/{commit[:2]}/{commit[2:]}/"
    listed = _git("for-each-ref", "--format=%(refname) %(objectname)", folder) or ""
    return {line.split()[0].removeprefix(folder): line.split()[1] for line in listed.splitlines()}


def _dvc(*arguments: str) -> str:
    """What dvc prints; InputError with its last line where it fails."""
    run = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False, env=_environment()
    )
    if run.returncode:
        lines = [line for line in run.stderr.splitlines() if line.strip()] or [f"exit status {run.returncode}"]
        errors = [line for line in lines if line.startswith("ERROR: ")] or lines
        raise InputError(f"dvc {' '.join(arguments[:2])}: {errors[-1].removeprefix('ERROR: ')}")
    return run.stdout


def _environment() -> dict[str, str]:
    """The stages say `python`, dvc's workers `dvc`: those of this environment, whether it is active or not."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def exp_command(run: PlannedRun, how: Literal["--queue", "--temp"], targets: Sequence[str] = ()) -> list[str]:
    """The arguments of dvc that queue a run, or run it at once, beside the workspace; the whole DAG without targets."""
    words = ["exp", "run", how, "--name", run.name]
    for path in _untracked(WEIGHTS):
        words += ["--copy-paths", path]
    for override in run.overrides:
        words += ["--set-param", override]
    return [*words, *targets]


def run_beside(run: PlannedRun, targets: Sequence[str] = (), *, silent: bool = False) -> int:
    """Run an experiment beside the workspace and wait for it; return dvc's exit status.

    dvc's output is shown; where `silent`, on stderr, as stdout is for something else.
    """
    command = [sys.executable, "-m", "dvc", *exp_command(run, "--temp", targets)]
    with subprocess.Popen(command, env=_environment(), stdout=sys.stderr.fileno() if silent else None) as dvc:
        try:
            return dvc.wait()
        except KeyboardInterrupt:
            # The terminal has interrupted dvc too: it ends its stage, and takes its folder away.
            dvc.wait()
            raise


def run_queued(
    runs: Sequence[PlannedRun], targets: Sequence[str], *, commit: str, jobs: int, shared_are_built: bool
) -> None:
    """Queue the runs of a study, run the queue and wait for it; what the stages log goes to stderr.

    What an interrupted call of this left in the queue is taken up again. With more than one job the first run, or
    what was left, runs by itself, unless `shared_are_built`: the stages that all share run once, and the others find
    them in dvc's run cache.

    Raises:
        InputError: the queue holds other experiments, which would run too, or dvc refuses one of these.
    """
    waiting = _take_up({run.name for run in runs}, commit)
    missing = [run for run in runs if run.name not in waiting]
    if jobs > 1 and not shared_are_built:
        if not waiting:
            _dvc(*exp_command(missing.pop(0), "--queue", targets))
        _follow_queue(1)
    for run in missing:
        _dvc(*exp_command(run, "--queue", targets))
    _follow_queue(jobs)


def _follow_queue(jobs: int) -> None:
    """Have workers run the queue, and wait until no task waits or runs.

    dvc waits without a limit for a task that no worker takes up, as when one that it counts on is just stopping. So
    where none has been at work for a while, they are started again.

    Raises:
        InputError: workers were started several times over, and no task ended.
    """
    command = [sys.executable, "-m", "dvc", "exp", "run", "--run-all", "--jobs", str(jobs)]
    num_waiting = len(_going(_queue()[0]))
    starts_in_vain = 0
    while num_waiting:
        if starts_in_vain == MAX_STARTS_IN_VAIN:
            raise InputError(
                f"dvc's queue: workers were started {MAX_STARTS_IN_VAIN} times and have ended no experiment; "
                ".dvc/tmp/exps/celery/*.out may say why; then run this again"
            )
        # Its exit status says nothing: what has no results has failed.
        dvc = subprocess.Popen(command, stdout=sys.stderr.fileno(), env=_environment())
        try:
            tasks, num_active = _wait_while_working(dvc)
        finally:
            dvc.terminate()
            dvc.wait()
        left = len(_going(tasks)) - len(_end_dead(tasks, num_active))
        starts_in_vain = starts_in_vain + 1 if left == num_waiting else 0
        num_waiting = left


def _wait_while_working(dvc: "subprocess.Popen[bytes]") -> tuple[list[Task], int]:
    """Return the queue once dvc and all tasks have ended, or no worker was at work MAX_IDLE_CHECKS times in a row."""
    idle_checks = 0
    while True:
        if dvc.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                dvc.wait(CHECK_S)
        else:
            # Of two that run at once it may leave the last one running.
            time.sleep(CHECK_S if idle_checks else 1)
        tasks, num_active = _queue()
        idle_checks = 0 if num_active else idle_checks + 1
        if idle_checks == MAX_IDLE_CHECKS or (dvc.poll() is not None and not _going(tasks)):
            return tasks, num_active


def _going(tasks: Sequence[Task]) -> list[Task]:
    return [task for task in tasks if not task.ended]


def _end_dead(tasks: Sequence[Task], num_active: int) -> set[str]:
    """End the tasks that run by their status alone: no worker is at work, as it was killed or the machine went down."""
    dead = {task.name for task in tasks if task.status == "Running"} if not num_active else set()
    if dead:
        _dvc("queue", "kill", *sorted(dead))
    return dead


def _take_up(names: Collection[str], commit: str) -> set[str]:
    """Those of the names that are queued or running already; what has ended in vain leaves the queue."""
    tasks, num_active = _queue()
    going = _going(tasks)
    foreign = [task.name for task in going if task.name not in names or not _starts_from(task, commit)]
    if foreign:
        raise InputError(
            f"dvc's queue holds {', '.join(foreign)}, which would run too; let them run (dvc exp run --run-all) or "
            "take them out (dvc queue remove --queued), then run this again"
        )
    dead = _end_dead(going, num_active)
    remove_from_queue(names)
    return {task.name for task in going} - dead


def _starts_from(task: Task, commit: str) -> bool:
    return commit in (_git("log", "--max-count=1", "--format=%s", task.rev) or "").split(":")


def _queue() -> tuple[list[Task], int]:
    """The tasks, and how many workers are at work.

    Raises:
        InputError: dvc can't say it, nor after RETRIES_S.
    """
    for wait_s in (*RETRIES_S, None):
        try:
            listed = _dvc("queue", "status")
            break
        except InputError:
            if wait_s is None:
                raise
            time.sleep(wait_s)
    tasks = [Task(**found.groupdict()) for line in listed.splitlines() if (found := _TASK.fullmatch(line.strip()))]
    workers = _WORKERS.search(listed)
    if workers is None:
        raise RuntimeError(f"dvc queue status prints no worker status:\n{listed}")
    return tasks, int(workers["active"])


def remove_from_queue(names: Collection[str]) -> None:
    """Take the tasks of these names that have ended out of dvc's queue; experiments with results stay."""
    ended = {task.name for task in _queue()[0] if task.ended and task.name in names}
    if ended:
        _dvc("queue", "remove", *sorted(ended))


def failure_reason(name: str) -> str:
    """Why an experiment has no results, in one line, from the log of its task."""
    try:
        return error_line(_dvc("queue", "logs", name))
    except InputError as error:
        return str(error)


def error_line(log: str) -> str:
    """The line of a stage's log that says most: the stage's own, an exception's, or dvc's."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for pattern in (_STAGE_ERROR, _EXCEPTION, re.compile("ERROR: ")):
        found = [line for line in lines if pattern.match(line)]
        if found:
            return found[-1].removeprefix("ERROR: ")
    return "it ended without results"


def read_tracked(revision: str, path: str) -> Any:
    """A JSON file of git, as an experiment has it."""
    text = _git("show", f"{revision}:{path}")
    if text is None:
        raise InputError(f"{path}: the experiment has no such file; its stage wrote none")
    return json.loads(text)


def read_cached_rows(revision: str, path: str) -> list[Mapping[str, Any]]:
    """The rows of a JSON Lines file that is an out of a stage, as an experiment has it."""
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        text = dvc.api.read(path, rev=revision, encoding="utf-8")
    except (DvcException, OSError) as error:
        raise InputError(f"{path}: not in dvc's cache ({' '.join(str(error).split())}); dvc exp pull it") from None
    return [json.loads(line) for line in text.splitlines()]
