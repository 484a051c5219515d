"""Experiments in a repository of two stages that take no time, and in repositories of git alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stillmotion.errors import InputError
from stillmotion.experiments import dvc_queue as experiments
from stillmotion.experiments.dvc_queue import (
    current_commit,
    error_line,
    exp_command,
    failure_reason,
    finished_experiments,
    read_cached_rows,
    read_tracked,
    remove_from_queue,
    run_beside,
    run_queued,
)
from stillmotion.experiments.plan import PlannedRun
from stillmotion.experiments.settings import overrides

STAGES = """\
stages:
  shared:
    cmd: python src/shared.py
    deps: [src/shared.py]
    outs: [data/made]
  train:
    matrix:
      model: [a]
    cmd: python src/train.py
    deps: [src/train.py, data/made]
    params: [rate]
    outs: [data/predictions]
    metrics:
      - metrics/a.json:
          cache: false
"""
SHARED = """\
from pathlib import Path
Path("data/made").write_text("1")
"""
TRAIN = """\
import json, sys
from pathlib import Path
rate = float(Path("params.yaml").read_text().split(":")[1])
if rate > 1:
    sys.exit("train: error: params.yaml: rate is above 1; lower it")
Path("metrics").mkdir(exist_ok=True)
Path("metrics/a.json").write_text(json.dumps({"rate": rate}))
Path("data/predictions").mkdir(exist_ok=True)
Path("data/predictions/ranks.jsonl").write_text('{"rank": [1]}\\n{"rank": [2]}\\n')
"""


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def commit(message="Start"):
    git("add", "--all")
    git("commit", "--quiet", "--allow-empty", "--message", message)
    return git("rev-parse", "HEAD").strip()


def of_rate(rate):
    return PlannedRun(f"study-rate-{rate}-0", rate, (0,), "toy", (f"rate={rate}",))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty git repository to be in, without the settings of the user's."""
    root = tmp_path / "repository"
    (root / "src").mkdir(parents=True)
    monkeypatch.chdir(root)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "nobody")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "nobody@localhost")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GLOBAL_CONFIG_DIR", "SYSTEM_CONFIG_DIR", "SITE_CACHE_DIR"):
        monkeypatch.setenv(f"DVC_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    git("init", "--quiet", "--initial-branch", "main")
    return root


@pytest.fixture
def project(repository):
    """A commit with two stages, one of which takes the param `rate`."""
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    files = {"params.yaml": "rate: 0.5\n", "dvc.yaml": STAGES, "src/shared.py": SHARED, "src/train.py": TRAIN}
    for name, content in {**files, ".gitignore": "/data/made\n/data/predictions\n", "data/.keep": ""}.items():
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text(content)
    commit()
    return repository


def test_experiments_start_from_the_commit(repository):
    (repository / "params.yaml").write_text("rate: 1\n")
    start = commit()
    assert current_commit("toy") == start


def test_results_that_are_not_committed_do_no_harm(repository):
    first = commit()
    (repository / "reports").mkdir()
    (repository / "reports" / "a.json").write_text("{}")
    assert current_commit("toy") == first


def test_no_repository_and_no_commit_are_one_line(repository, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no commit for experiments to start from; commit the project first"):
        current_commit("toy")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no git repository, and experiments are commits"):
        current_commit("toy")


def test_changed_params_and_new_code_must_be_committed(repository):
    (repository / "params.yaml").write_text("rate: 1\n")
    commit()
    (repository / "params.yaml").write_text("rate: 2\n")
    (repository / "src" / "new.py").write_text("")
    with pytest.raises(InputError, match=r"^not committed: params\.yaml, src/; .*: commit them first$"):
        current_commit("toy")


def test_videos_that_experiments_would_not_see_are_told(repository, monkeypatch):
    source = repository / "data" / "sources" / "mine"
    source.mkdir(parents=True)
    (source / "a.mp4").write_text("")
    commit()
    current_commit("mine")
    (source / "b.mp4").write_text("")
    with pytest.raises(InputError, match="stillmotion add data/sources/mine"):
        current_commit("mine")
    current_commit("toy")
    (repository / "data" / "sources" / "mine.dvc").write_text("")
    with pytest.raises(InputError, match=r"git add data/sources/mine\.dvc data/sources/\.gitignore && git commit"):
        current_commit("mine")
    git("add", "data/sources/mine.dvc")
    git("commit", "--quiet", "--message", "Track")
    monkeypatch.setattr(experiments, "_dvc", lambda *_: "{}")
    current_commit("mine")


@pytest.mark.slow
def test_captions_that_were_edited_must_be_added_or_committed_first(project):
    # An experiment would take them as they are, under the name that has results with those of before.
    for name in ("mine", "linked"):
        (project / "data" / "sources" / name).mkdir(parents=True)
        (project / "data" / "sources" / name / "captions.csv").write_text("video,caption\n")
    experiments._dvc("add", "--quiet", "data/sources/mine")
    start = commit()
    assert [current_commit(name) for name in ("mine", "linked")] == [start, start]
    for name in ("mine", "linked"):
        (project / "data" / "sources" / name / "captions.csv").write_text("video,caption\na.mp4,a cat\n")
    with pytest.raises(InputError, match=r"^data/sources/mine: edited since .*; stillmotion add data/sources/mine$"):
        current_commit("mine")
    with pytest.raises(InputError, match=r"^not committed: data/sources/linked/captions\.csv; .*: commit them first$"):
        current_commit("linked")
    assert current_commit("toy") == start


def test_weights_that_are_in_no_commit_are_copied_along(repository):
    weights = repository / "data" / "weights"
    (weights / "clip").mkdir(parents=True)
    for name in ("README.md", "a.safetensors", "tracked.pt", "tracked.pt.dvc", "clip/config.json"):
        (weights / name).write_text("")
    (weights / ".gitignore").write_text("*\n!.gitignore\n!README.md\n!*.dvc\n")
    commit()
    assert exp_command(of_rate(0.1), "--queue", ["train@a"]) == [
        *("exp", "run", "--queue", "--name", "study-rate-0.1-0"),
        *("--copy-paths", "data/weights/a.safetensors", "--copy-paths", "data/weights/clip"),
        *("--set-param", "rate=0.1", "train@a"),
    ]


def test_only_experiments_of_this_commit_are_done(repository):
    first = commit()
    second = commit("Second")
    for start, name in ((first, "study-a-1-0"), (second, "study-a-2-0")):
        git("update-ref", f"refs/exps/{start[:2]}/{start[2:]}/{name}", second)
    assert finished_experiments(second) == {"study-a-2-0": second}


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (
            "> python src/finetune.py\nepoch 1\nfinetune: error: params.yaml: too high\n"
            "ERROR: failed to reproduce 'finetune@a': failed to run: python src/finetune.py, exited with 2\n",
            "finetune: error: params.yaml: too high",
        ),
        (
            'Traceback (most recent call last):\n  File "a.py", line 1\ntorch.OutOfMemoryError: no memory\n'
            "ERROR: failed to reproduce 'finetune@a': failed to run: python src/finetune.py, exited with 1\n",
            "torch.OutOfMemoryError: no memory",
        ),
        ("ERROR: output 'a' does not exist\n\n", "output 'a' does not exist"),
        ("Running stage 'a'\n", "it ended without results"),
        ("", "it ended without results"),
    ],
)
def test_the_line_that_says_most_of_a_failure(log, line):
    assert error_line(log) == line


@pytest.mark.slow
def test_the_queue_runs_shared_stages_once_and_keeps_the_results_and_the_reasons(project):
    start = git("rev-parse", "HEAD").strip()
    planned = [of_rate(rate) for rate in (0.1, 0.2, 2.0)]
    # What an interrupted run has left; the others are queued beside it.
    experiments._dvc(*exp_command(planned[0], "--queue", ["train@a"]))
    run_queued(planned, ["train@a"], commit=start, jobs=2, shared_are_built=False)

    done = finished_experiments(start)
    assert set(done) == {"study-rate-0.1-0", "study-rate-0.2-0"}
    assert failure_reason("study-rate-2.0-0") == "train: error: params.yaml: rate is above 1; lower it"
    logs = [experiments._dvc("queue", "logs", experiment.name) for experiment in planned]
    assert ["Running stage 'shared'" in log for log in logs] == [True, False, False]
    assert [log.count("Reproducing experiment") for log in logs] == [1, 1, 1]
    revision = done["study-rate-0.2-0"]
    assert read_tracked(revision, "metrics/a.json") == {"rate": 0.2}
    assert read_cached_rows(revision, "data/predictions/ranks.jsonl") == [{"rank": [1]}, {"rank": [2]}]
    with pytest.raises(InputError, match="metrics/b.json: the experiment has no such file"):
        read_tracked(revision, "metrics/b.json")
    with pytest.raises(InputError, match=r"ranks\.json: not in dvc's cache"):
        read_cached_rows(revision, "data/predictions/ranks.json")
    assert json.loads(git("show", f"{done['study-rate-0.1-0']}:metrics/a.json")) == {"rate": 0.1}
    assert git("status", "--porcelain") == ""

    remove_from_queue({"study-rate-0.1-0", "study-rate-2.0-0"})
    assert [task.name for task in experiments._queue()[0]] == ["study-rate-0.2-0"]
    assert finished_experiments(start) == done


RECORDS = """\
# A comment, which dvc keeps.
rate: 0.5
finetuned:
  clip-mug:
    from: clip
    seed: 0
"""
SHOW = """\
stages:
  show:
    cmd: python src/show.py
    deps: [src/show.py]
    params: [rate, finetuned]
    metrics:
      - metrics/params.json:
          cache: false
"""
SHOWN = """\
import json, sys
from pathlib import Path
import ruamel.yaml
params = ruamel.yaml.YAML(typ="safe").load(Path("params.yaml"))
if params["rate"] > 1:
    sys.exit("show: error: params.yaml: rate is above 1; lower it")
Path("metrics").mkdir(exist_ok=True)
Path("metrics/params.json").write_text(json.dumps(params))
"""


@pytest.mark.slow
def test_a_run_beside_the_workspace_has_its_records_in_place_of_those_that_were_there(project, capfd):
    (project / "params.yaml").write_text(RECORDS)
    (project / "dvc.yaml").write_text(SHOW)
    (project / "src" / "show.py").write_text(SHOWN)
    start = commit()
    before = {"rate": 0.5, "finetuned": {"clip-mug": {"from": "clip", "seed": 0}}}
    after = {"rate": 1e-05, "finetuned": {"clip-mug-0": {"from": "clip", "seed": 0}, "b.1-mug": {"from": "b.1"}}}
    made = PlannedRun("made", None, (), "toy", tuple(overrides(before, after)))
    failing = PlannedRun("failing", None, (), "toy", ("rate=2.0",))

    assert run_beside(made) == 0
    assert "Running stage 'show'" in capfd.readouterr().out
    done = finished_experiments(start)
    assert set(done) == {"made"}
    assert read_tracked(done["made"], "metrics/params.json") == after
    assert git("show", f"{done['made']}:params.yaml").startswith("# A comment, which dvc keeps.\n")
    assert run_beside(failing) != 0
    assert set(finished_experiments(start)) == {"made"}
    assert git("status", "--porcelain") == ""
    assert (project / "params.yaml").read_text() == RECORDS

    queued = PlannedRun("queued", 1, (), "toy", made.overrides)
    run_queued([queued], [], commit=start, jobs=1, shared_are_built=True)
    assert read_tracked(finished_experiments(start)["queued"], "metrics/params.json") == after


class Dvc:
    """A process that stands for dvc, and goes on until it is told to end, or has ended already."""

    def __init__(self, *, ended):
        self.ended = ended

    def poll(self):
        return 0 if self.ended else None

    def wait(self, timeout=None):
        if not self.ended:
            raise subprocess.TimeoutExpired("dvc", timeout)

    def terminate(self):
        self.ended = True


def follow_queue(monkeypatch, states, *, dvc_ends):
    """Follow a queue of one task whose looks are `states`: its status and the number of workers at work."""
    started, killed = [], []
    states = list(states)

    def start(*_, **__):
        started.append(Dvc(ended=dvc_ends))
        return started[-1]

    def queue():
        status, num_active = states.pop(0)
        return [experiments.Task("abcdef0", "study-rate-2.0-0", status)], num_active

    monkeypatch.setattr(experiments.subprocess, "Popen", start)
    monkeypatch.setattr(experiments.time, "sleep", lambda _: None)
    monkeypatch.setattr(experiments, "_queue", queue)
    monkeypatch.setattr(experiments, "_dvc", lambda *arguments: killed.append(arguments))
    try:
        experiments._follow_queue(2)
    finally:
        assert all(dvc.ended for dvc in started)
    assert states == []
    return len(started), killed


def test_what_dvc_still_runs_when_it_returns_is_waited_for(monkeypatch):
    states = [("Queued", 0), ("Running", 1), ("Running", 1), ("Failed", 0)]
    assert follow_queue(monkeypatch, states, dvc_ends=True) == (1, [])


def test_a_task_that_no_worker_takes_up_has_workers_started_again(monkeypatch):
    waiting = [("Queued", 0)] * (1 + experiments.MAX_IDLE_CHECKS)
    # Two looks without a worker are none too many, where the third sees one.
    done = [("Queued", 0)] * 2 + [("Running", 1)] + [("Success", 0)] * experiments.MAX_IDLE_CHECKS
    assert follow_queue(monkeypatch, waiting + done, dvc_ends=False) == (2, [])


@pytest.mark.parametrize("num_failures", [1, len(experiments.RETRIES_S)])
def test_a_look_at_the_queue_that_fails_is_taken_again(monkeypatch, num_failures):
    failures, waited = [InputError("dvc queue status: database is locked")] * num_failures, []

    def dvc(*arguments):
        assert arguments == ("queue", "status")
        if failures:
            raise failures.pop()
        return "abcdef0  study-rate-2.0-0  10:00 AM  Running\n\nWorker status: 1 active, 0 idle\n"

    monkeypatch.setattr(experiments, "_dvc", dvc)
    monkeypatch.setattr(experiments.time, "sleep", waited.append)
    assert experiments._queue() == ([experiments.Task("abcdef0", "study-rate-2.0-0", "Running")], 1)
    assert waited == list(experiments.RETRIES_S[:num_failures])


def test_a_task_whose_worker_died_is_ended(monkeypatch):
    states = [("Queued", 0), ("Running", 1)] + [("Running", 0)] * experiments.MAX_IDLE_CHECKS
    assert follow_queue(monkeypatch, states, dvc_ends=False) == (1, [("queue", "kill", "study-rate-2.0-0")])


def test_workers_that_never_take_up_a_task_are_not_started_for_ever(monkeypatch):
    states = [("Queued", 0)] * (1 + experiments.MAX_STARTS_IN_VAIN * experiments.MAX_IDLE_CHECKS)
    with pytest.raises(InputError, match=r"^dvc's queue: workers were started 3 times and have ended no experiment; "):
        follow_queue(monkeypatch, states, dvc_ends=False)


@pytest.mark.slow
def test_the_queue_runs_though_the_first_dvc_starts_no_worker(project, monkeypatch):
    start, start_process, followed = git("rev-parse", "HEAD").strip(), subprocess.Popen, []

    def start_or_hang(command, **settings):
        if "--run-all" in command:
            followed.append(command)
            if len(followed) == 1:
                command = [sys.executable, "-c", "import time; time.sleep(600)"]
        return start_process(command, **settings)

    experiments._dvc(*exp_command(of_rate(0.1), "--queue", ["train@a"]))
    monkeypatch.setattr(experiments, "CHECK_S", 1)
    monkeypatch.setattr(subprocess, "Popen", start_or_hang)
    experiments._follow_queue(1)
    assert len(followed) >= 2
    assert set(finished_experiments(start)) == {"study-rate-0.1-0"}


@pytest.mark.slow
def test_experiments_of_others_or_of_another_commit_in_the_queue_stop_the_command(project):
    start = git("rev-parse", "HEAD").strip()
    ours = of_rate(0.1)
    experiments._dvc(*exp_command(ours, "--queue", ["train@a"]))
    after = commit("Something else")
    for known, now in (([ours], after), ([of_rate(0.3)], start)):
        with pytest.raises(InputError, match=r"^dvc's queue holds study-rate-0\.1-0, which would run too; "):
            run_queued(known, ["train@a"], commit=now, jobs=1, shared_are_built=True)
    assert finished_experiments(start) == finished_experiments(after) == {}


def test_what_dvc_refuses_is_one_line(repository, monkeypatch):
    monkeypatch.setattr(experiments, "RETRIES_S", ())
    with pytest.raises(InputError, match=r"^dvc queue status: you are not inside of a DVC repository"):
        remove_from_queue({"a"})
    assert Path("src").is_dir()
