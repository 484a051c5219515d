"""The command with experiments in memory; tests/pipeline/test_run.py runs it on the pipeline."""

import json
from pathlib import Path

import pytest

from stillmotion import cli
from stillmotion.errors import InputError
from stillmotion.experiments import dvc_queue, plan

PARAMS = """\
dataset: toy
threads: 2
run:
  embedded:
    - clip
    - clip-mug
embed:
  clip_counts:
    - 1
finetuned:
  clip-mug:
    from: clip
    recipe: mug
    seed: 0
retrieval:
  clip-mug-mean:
    model: clip-mug
    scorer: mean
recipes:
  mug:
    batch_size: 64
scorers:
  mean:
    kind: mean
"""
PLAIN = """\
about: One thread; 3 min
set:
  threads: 1
  finetuned:
    - {from: clip, recipe: mug, seed: [0, 1]}
"""
STUDY = """\
about: Batches; not timed
vary:
  key: recipes.mug.batch_size
  values:
    - 8
    - 16
seeds:
  - 0
  - 1
collect:
  title: Batch size of fine-tuning
  system: clip-mug-mean
  num_clips: 1
  recall_at: 1
  validation: finetune
  cost: true
"""
COST = {"forward_flops": 2e9, "backward_flops": 4e9, "peak_memory_mib": 10.0, "seconds_a_step": 0.5}
RESULTS = Path("reports/ablations")


class Laboratory:
    """Experiments that are done at once but for those that fail."""

    def __init__(self):
        self.done: dict[str, str] = {}
        self.fails: set[str] = set()
        self.ran: list[str] = []
        self.targets: list[str] = []
        self.removed: list[str] = []
        self.interrupted = False
        self.validated = True

    def run_queued(self, pending, targets, *, commit, jobs, shared_are_built):
        if self.interrupted:
            raise KeyboardInterrupt
        self.targets = list(targets)
        self.ran += [run.name for run in pending]
        self.done |= {name: f"commit of {name}" for name in self.ran if name not in self.fails}

    def run_beside(self, run):
        self.run_queued([run], [], commit="", jobs=1, shared_are_built=True)
        return int(run.name in self.fails)

    def read_tracked(self, revision, path):
        if path.startswith("metrics/resources/"):
            return COST
        assert path == "plots/finetune/clip-mug.json"
        if not self.validated:
            return [{"epoch": 0, "loss": 1.0}]
        return [{"epoch": 0, "score": 50.0 if "-16-" in revision else 40.0}]

    def read_cached_rows(self, revision, path):
        assert path == "data/predictions/retrieval/clip-mug-mean/ranks.jsonl"
        return [{"rank_by_num_clips": {"1": [rank]}} for rank in (1.0, 2.0)]


@pytest.fixture
def laboratory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    (tmp_path / "experiments").mkdir()
    for name, content in {"plain": PLAIN, "batch_size": STUDY}.items():
        (tmp_path / "experiments" / f"{name}.yaml").write_text(content, encoding="utf-8")
    made = Laboratory()
    # These params are no whole file.
    monkeypatch.setattr(plan, "check_params", lambda params, where: None)
    monkeypatch.setattr(dvc_queue, "current_commit", lambda dataset: "c0ffee")
    monkeypatch.setattr(dvc_queue, "finished_experiments", lambda commit: dict(made.done))
    monkeypatch.setattr(dvc_queue, "failure_reason", lambda name: "finetune: error: no memory")
    monkeypatch.setattr(dvc_queue, "remove_from_queue", lambda names: made.removed.extend(sorted(names)))
    for name in ("run_queued", "run_beside", "read_tracked", "read_cached_rows"):
        monkeypatch.setattr(dvc_queue, name, getattr(made, name))
    return made


@pytest.fixture
def run(laboratory, capsys):
    """Run the command; give what it printed."""

    def run_command(*arguments, status=0):
        assert cli.run(["run", *arguments]) == status
        return capsys.readouterr()

    return run_command


NAMES = [f"batch_size-{value}-{seed}" for value in (8, 16) for seed in (0, 1)]
PLAIN_COMMAND = (
    "dvc exp run --temp --name plain --set-param threads=1 --set-param +run.experiment=plain "
    "--set-param '~finetuned' "
    "--set-param '+finetuned={clip-mug-0:{from:clip,recipe:mug,seed:0},clip-mug-1:{from:clip,recipe:mug,seed:1}}'"
)


def test_without_a_name_the_experiments_are_listed_with_what_they_are_about(run):
    assert run().out.splitlines() == [
        "batch_size  Batches; not timed (recipes.mug.batch_size: 8, 16; seeds 0, 1)",
        "plain       One thread; 3 min",
    ]


def test_an_experiment_is_one_run_beside_the_workspace_whose_command_is_shown(run, laboratory):
    assert PLAIN_COMMAND in run("plain").err.splitlines()
    assert (laboratory.ran, laboratory.targets) == (["plain"], [])
    assert not RESULTS.exists()


def test_an_experiment_that_has_results_is_not_run_again(run, laboratory):
    laboratory.done = {"plain": "commit of plain"}
    assert run("plain").err == "# plain has results; dvc exp remove plain to have it run again\n"
    assert laboratory.ran == []


def test_an_experiment_with_other_params_is_another_one(run, laboratory):
    laboratory.done = {"plain": "commit of plain"}
    printed = run("plain", "--set", "threads=8", "--set", "embed.clip_counts=[1, 2]")
    (name,) = laboratory.ran
    assert name.startswith("plain-")
    assert f"--name {name} " in printed.err
    assert (
        "--set-param threads=8 --set-param +run.experiment=plain --set-param 'embed.clip_counts=[1,2]'" in printed.err
    )


def test_an_experiment_that_fails_ends_with_1(run, laboratory):
    laboratory.fails = {"plain"}
    run("plain", status=1)


def test_a_study_without_a_table_is_run_as_a_whole(run, laboratory):
    run("plain", "--seeds", "3,4")
    assert (laboratory.ran, laboratory.targets) == (["plain-3", "plain-4"], [])
    assert not RESULTS.exists()


def test_the_old_name_of_the_command_runs_studies_too(laboratory):
    assert cli.run(["ablate", "batch_size"]) == 0
    assert laboratory.ran == NAMES


def test_every_value_and_seed_is_run_and_collected_into_a_table_and_a_figure(run, laboratory):
    printed = run("batch_size")
    assert laboratory.ran == NAMES
    assert "4 experiments, 4 to run" in printed.err
    assert laboratory.targets == ["evaluate_retrieval@clip-mug-mean", "measure_resources@clip-mug"]
    result = json.loads((RESULTS / "batch_size.json").read_text(encoding="utf-8"))
    assert (result["name"], result["dataset"], result["model"]) == ("batch_size", "toy", "clip-mug")
    assert [point["value"] for point in result["points"]] == [8, 16]
    assert result["points"][1]["runs"][0] == {
        "seed": 0,
        "validation_R@1": 50.0,
        "test_R@1": 50.0,
        "test_hits": [100.0, 0.0],
        "experiment": "batch_size-16-0",
    }
    assert result["points"][1]["cost"] == COST
    table = (RESULTS / "batch_size.md").read_text(encoding="utf-8")
    row = "| 16 | 2 | 50.0 ± 0.0 | 50.0 (0.0 to 100.0) | 2.00 | 4.00 | 10 | 0.500 |"
    assert row in table
    assert row in printed.out
    assert (RESULTS / "batch_size.svg").is_file()
    assert laboratory.removed == sorted(NAMES)


def test_what_has_results_is_not_run_again_and_collecting_twice_gives_the_same_bytes(run, laboratory):
    laboratory.done = {name: f"commit of {name}" for name in NAMES[:3]}
    run("batch_size")
    assert laboratory.ran == NAMES[3:]
    files = [RESULTS / f"batch_size.{kind}" for kind in ("json", "md", "svg")]
    before = [file.read_bytes() for file in files]
    laboratory.removed = []
    assert "4 experiments, 0 to run" in run("batch_size").err
    assert laboratory.ran == NAMES[3:]
    assert laboratory.removed == []
    assert [file.read_bytes() for file in files] == before


def test_values_and_seeds_of_the_command_line_stand_for_those_of_the_definition(run, laboratory):
    run("batch_size", "--values", "32", "--seeds", "7,8", "--keep-queue")
    assert laboratory.ran == ["batch_size-32-7", "batch_size-32-8"]
    assert laboratory.removed == []


def test_a_failure_is_listed_the_others_are_collected_and_the_status_is_1(run, laboratory):
    laboratory.fails = {NAMES[1]}
    printed = run("batch_size", status=1)
    line = "batch_size-8-1: finetune: error: no memory"
    assert f"failed: {line}" in printed.err.splitlines()
    assert f"- {line}" in (RESULTS / "batch_size.md").read_text(encoding="utf-8")
    result = json.loads((RESULTS / "batch_size.json").read_text(encoding="utf-8"))
    assert [len(point["runs"]) for point in result["points"]] == [1, 2]


def test_results_that_cannot_be_collected_are_a_failure_and_of_none_nothing_is_written(run, laboratory):
    laboratory.validated = False
    printed = run("batch_size", status=1)
    assert printed.err.count("no validation score of seed") == 4
    assert not RESULTS.exists()


def test_a_dry_run_prints_the_commands_and_runs_nothing(run, laboratory, monkeypatch):
    monkeypatch.setattr(dvc_queue, "current_commit", pytest.fail)
    assert run("plain", "--dry-run").out == f"{PLAIN_COMMAND}\n"
    lines = run("batch_size", "--dry-run").out.splitlines()
    assert lines[1] == (
        "dvc exp run --queue --name batch_size-8-1 --set-param +run.experiment=batch_size "
        "--set-param finetuned.clip-mug.seed=1 --set-param recipes.mug.batch_size=8 "
        "evaluate_retrieval@clip-mug-mean measure_resources@clip-mug"
    )
    assert len(lines) == 4
    assert laboratory.ran == []
    assert not RESULTS.exists()


def test_an_interruption_says_how_to_go_on_and_ends_with_130(run, laboratory):
    laboratory.interrupted = True
    printed = run("batch_size", status=130)
    assert (
        "What runs goes on in the background; `dvc queue stop --kill` ends it. The same command goes on." in printed.err
    )
    assert run("plain", status=130).err.endswith("\nThe same command goes on.\nstillmotion: interrupted\n")
    assert not RESULTS.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batchsize"], "experiments has no 'batchsize'; did you mean 'batch_size'?"),
        (["batch_size", "--seeds", "x"], "--seeds: seeds.0 is 'x': "),
        (["batch_size", "--jobs", "0"], "Invalid value for '--jobs'"),
        (["plain", "--set", "thread=1"], "--set: params.yaml has no thread; did you mean 'threads'?"),
        (["plain", "--values", "1"], "--values: experiments/plain.yaml varies nothing; "),
    ],
)
def test_a_mistake_is_one_line_and_nothing_runs(run, laboratory, arguments, message):
    printed = run(*arguments, status=2)
    assert printed.err.startswith(f"stillmotion: error: {message}")
    assert printed.err.count("\n") == 1
    assert (printed.out, laboratory.ran) == ("", [])


def test_what_git_lacks_is_told_before_anything_runs(run, laboratory, monkeypatch):
    def refuse(dataset):
        raise InputError(f"no commit ({dataset})")

    monkeypatch.setattr(dvc_queue, "current_commit", refuse)
    assert run("batch_size", status=2).err == "stillmotion: error: no commit (toy)\n"
    assert laboratory.ran == []
