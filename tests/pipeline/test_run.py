"""A study in a clone in which nothing has run: shared stages run once, what fails is told, the rest collected."""

import json

import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

SYSTEM = "small_clip-transformer_mean"
# Of what can be varied, the one with the fewest stages behind it.
DEFINITION = """\
about: Heads of the aggregator; not timed
set:
  retrieval:
    - {model: small_clip, scorer: transformer_mean}
  run:
    embedded: [small_clip]
    probed: []
    assessed: []
    selected: []
  train_aggregator:
    learning_rate: 1.0e-2
    seeds:
      - 3
      - 0
vary:
  key: scorers.transformer_mean.heads
  values:
    - 2
    - 4
    - 5
collect:
  title: Heads of the aggregator
  system: small_clip-transformer_mean
  num_clips: 1
  recall_at: 1
  validation: train_aggregator
  cost: false
"""
RESULTS = "reports/ablations/heads_of_aggregator"


def test_a_study_runs_shared_stages_once_tells_what_failed_and_goes_on_where_it_was(workplace):
    (workplace.root / "experiments" / "heads_of_aggregator.yaml").write_text(DEFINITION, encoding="utf-8")
    workplace.commit("Define a study")

    # 5 heads don't divide the 32 dimensions: the stage refuses them.
    run = workplace.run("stillmotion", "run", "heads_of_aggregator", status=1)
    for shared in ("download@toy", "sample_frames@toy", "backbone@small_clip", "embed@small_clip"):
        assert run.err.count(f"Running stage '{shared}'") == 1
    assert run.err.count(f"Running stage 'evaluate_retrieval@{SYSTEM}'") == 2
    assert "finetune" not in run.err
    reason = "heads_of_aggregator-5: train_aggregator: error: params.yaml: heads of an aggregator is 5"
    assert f"failed: {reason}" in run.err
    result = json.loads((workplace.root / f"{RESULTS}.json").read_text(encoding="utf-8"))
    assert [(point["value"], len(point["runs"])) for point in result["points"]] == [(2, 2), (4, 2), (5, 0)]
    for point in result["points"][:2]:
        name = f"heads_of_aggregator-{point['value']}"
        assert [(found["seed"], found["experiment"]) for found in point["runs"]] == [(3, name), (0, name)]
        commit = workplace.git("for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}").strip()
        metrics = json.loads(workplace.git("show", f"{commit}:metrics/retrieval/{SYSTEM}.json"))
        recalls = [found["test_R@1"] for found in point["runs"]]
        assert sum(recalls) / 2 == pytest.approx(metrics["by_num_clips"]["1"]["t2v"]["R@1"], abs=1e-3)
        assert all(len(found["test_hits"]) == metrics["protocol"]["num_queries"] for found in point["runs"])
        history = json.loads(workplace.git("show", f"{commit}:plots/train_aggregator/{SYSTEM}.json"))
        for found in point["runs"]:
            scores = [row["score"] for row in history if (row["num_clips"], row["seed"]) == (1, found["seed"])]
            assert found["validation_R@1"] == round(max(scores), 4)
        params = workplace.git("show", f"{commit}:params.yaml")
        assert "learning_rate: 0.01\n" in params
    assert f"- {reason}" in (workplace.root / f"{RESULTS}.md").read_text(encoding="utf-8")
    # Only the results are new in the workspace, and the queue is as it was.
    assert workplace.git("status", "--porcelain", "--untracked-files=all").splitlines() == [
        f"?? {RESULTS}.{kind}" for kind in ("json", "md", "svg")
    ]
    assert "No experiment tasks in the queue" in workplace.dvc("queue", "status").out

    again = workplace.run("stillmotion", "run", "heads_of_aggregator", "--values", "2,4")
    assert "2 experiments, 0 to run" in again.err
    assert "Running stage" not in again.text
    kept = json.loads((workplace.root / f"{RESULTS}.json").read_text(encoding="utf-8"))
    assert kept["points"] == result["points"][:2]
