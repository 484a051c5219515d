"""The command with experiments in memory; tests/pipeline/test_ablate.py runs it on the pipeline."""

import json
from pathlib import Path

import pytest

from stillmotion import cli
from stillmotion.errors import InputError
from stillmotion.experiments import dvc_queue as experiments

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"
DEFINITION = """\
batch_size:
  title: Batch size of fine-tuning
  param: recipes.half_patches.batch_size
  values:
    - 8
    - 16
  others: {}
  seed_param: recipes.half_patches.seed
  seeds:
    - 0
    - 1
  settings:
    run.models:
      - small_clip-half_patches
    run.aggregators:
      - mean
    run.conditional: []
    embed.clip_counts:
      - 1
  model: small_clip-half_patches
  evaluation: evaluate_retrieval
  aggregator: mean
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
        self.removed: list[str] = []
        self.interrupted = False
        self.validated = True

    def run_experiments(self, pending, targets, *, commit, jobs, shared_are_built):
        if self.interrupted:
            raise KeyboardInterrupt
        self.ran += [experiment.name for experiment in pending]
        self.done |= {name: f"commit of {name}" for name in self.ran if name not in self.fails}

    def read_tracked(self, revision, path):
        if path.startswith("metrics/resources/"):
            return COST
        assert path == "plots/finetune/small_clip-half_patches.json"
        if not self.validated:
            return [{"epoch": 0, "loss": 1.0}]
        return [{"epoch": 0, "score": 50.0 if "-16-" in revision else 40.0}]

    def read_cached_rows(self, revision, path):
        assert path == "data/predictions/retrieval/small_clip-half_patches-mean/ranks.jsonl"
        return [{"rank_by_num_clips": {"1": [rank]}} for rank in (1.0, 2.0)]


@pytest.fixture
def laboratory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes(PARAMS.read_bytes())
    (tmp_path / "ablations.yaml").write_text(DEFINITION, encoding="utf-8")
    made = Laboratory()
    monkeypatch.setattr(experiments, "current_commit", lambda dataset: "c0ffee")
    monkeypatch.setattr(experiments, "finished_experiments", lambda commit: dict(made.done))
    monkeypatch.setattr(experiments, "failure_reason", lambda name: "finetune: error: no memory")
    monkeypatch.setattr(experiments, "remove_from_queue", lambda names: made.removed.extend(sorted(names)))
    for name in ("run_experiments", "read_tracked", "read_cached_rows"):
        monkeypatch.setattr(experiments, name, getattr(made, name))
    return made


@pytest.fixture
def ablate(laboratory, capsys):
    """Run the command; give what it printed."""

    def run(*arguments, status=0):
        assert cli.run(["ablate", *arguments]) == status
        return capsys.readouterr()

    return run


NAMES = [f"ablate-batch_size-{value}-{seed}" for value in (8, 16) for seed in (0, 1)]


def test_without_a_name_the_ablations_are_listed(ablate):
    assert ablate().out.splitlines() == [
        "batch_size: Batch size of fine-tuning; 4 runs in 4 experiments",
        "  recipes.half_patches.batch_size: 8, 16; seeds 0, 1",
    ]


def test_every_value_and_seed_is_run_and_collected_into_a_table_and_a_figure(ablate, laboratory):
    printed = ablate("batch_size")
    assert laboratory.ran == NAMES
    assert "batch_size: 4 experiments, 4 to run" in printed.err
    result = json.loads((RESULTS / "batch_size.json").read_text(encoding="utf-8"))
    assert (result["name"], result["dataset"], result["model"]) == ("batch_size", "toy", "small_clip-half_patches")
    assert [point["value"] for point in result["points"]] == [8, 16]
    assert result["points"][1]["runs"][0] == {
        "seed": 0,
        "validation_R@1": 50.0,
        "test_R@1": 50.0,
        "test_hits": [100.0, 0.0],
        "experiment": "ablate-batch_size-16-0",
    }
    assert result["points"][1]["cost"] == COST
    table = (RESULTS / "batch_size.md").read_text(encoding="utf-8")
    row = "| 16 | 2 | 50.0 ± 0.0 | 50.0 (0.0 to 100.0) | 2.00 | 4.00 | 10 | 0.500 |"
    assert row in table
    assert row in printed.out
    assert (RESULTS / "batch_size.svg").is_file()
    assert laboratory.removed == sorted(NAMES)


def test_what_has_results_is_not_run_again_and_collecting_twice_gives_the_same_bytes(ablate, laboratory):
    laboratory.done = {name: f"commit of {name}" for name in NAMES[:3]}
    ablate("batch_size")
    assert laboratory.ran == NAMES[3:]
    files = [RESULTS / f"batch_size.{kind}" for kind in ("json", "md", "svg")]
    before = [file.read_bytes() for file in files]
    laboratory.removed = []
    assert "4 experiments, 0 to run" in ablate("batch_size").err
    assert laboratory.ran == NAMES[3:]
    assert laboratory.removed == []
    assert [file.read_bytes() for file in files] == before


def test_values_and_seeds_of_the_command_line_stand_for_those_of_the_definition(ablate, laboratory):
    ablate("batch_size", "--values", "32", "--seeds", "7,8", "--keep-queue")
    assert laboratory.ran == ["ablate-batch_size-32-7", "ablate-batch_size-32-8"]
    assert laboratory.removed == []


def test_a_failure_is_listed_the_others_are_collected_and_the_status_is_1(ablate, laboratory):
    laboratory.fails = {NAMES[1]}
    printed = ablate("batch_size", status=1)
    line = "ablate-batch_size-8-1: finetune: error: no memory"
    assert f"failed: {line}" in printed.err.splitlines()
    assert f"- {line}" in (RESULTS / "batch_size.md").read_text(encoding="utf-8")
    result = json.loads((RESULTS / "batch_size.json").read_text(encoding="utf-8"))
    assert [len(point["runs"]) for point in result["points"]] == [1, 2]


def test_results_that_cannot_be_collected_are_a_failure_and_of_none_nothing_is_written(ablate, laboratory):
    laboratory.validated = False
    printed = ablate("batch_size", status=1)
    assert printed.err.count("no validation score of seed") == 4
    assert not RESULTS.exists()


def test_a_dry_run_prints_the_commands_and_runs_nothing(ablate, laboratory):
    laboratory.done = {NAMES[0]: "commit"}
    lines = ablate("batch_size", "--dry-run").out.splitlines()
    assert lines[0] == "# ablate-batch_size-8-0 has results"
    assert lines[1] == (
        "dvc exp run --queue --name ablate-batch_size-8-1 --set-param 'run.models=[small_clip-half_patches]' "
        "--set-param 'run.aggregators=[mean]' --set-param 'run.conditional=[]' --set-param 'embed.clip_counts=[1]' "
        "--set-param recipes.half_patches.batch_size=8 --set-param recipes.half_patches.seed=1 "
        "evaluate_retrieval@small_clip-half_patches-mean measure_resources_finetuning@small_clip-half_patches"
    )
    assert len(lines) == 4
    assert laboratory.ran == []
    assert not RESULTS.exists()


def test_an_interruption_says_how_to_go_on_and_ends_with_130(ablate, laboratory):
    laboratory.interrupted = True
    printed = ablate("batch_size", status=130)
    assert "the same command follows it again, `dvc queue stop --kill` ends it" in printed.err
    assert not RESULTS.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batchsize"], "ablations.yaml has no 'batchsize'; did you mean batch_size?"),
        (["batch_size", "--values", "0"], "batch_size at 0: params.yaml: param recipes.half_patches.batch_size is 0: "),
        (["batch_size", "--seeds", "x"], "--values or --seeds: seeds.0 is 'x': "),
        (["batch_size", "--jobs", "0"], "Invalid value for '--jobs'"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_runs(ablate, laboratory, arguments, message):
    printed = ablate(*arguments, status=2)
    assert printed.err.startswith(f"stillmotion: error: {message}")
    assert printed.err.count("\n") == 1
    assert (printed.out, laboratory.ran) == ("", [])


def test_what_git_lacks_is_told_before_anything_runs(ablate, laboratory, monkeypatch):
    def refuse(dataset):
        raise InputError(f"no commit ({dataset})")

    monkeypatch.setattr(experiments, "current_commit", refuse)
    assert ablate("batch_size", status=2).err == "stillmotion: error: no commit (toy)\n"
    assert laboratory.ran == []
