"""Code as a dependency (DESIGN.md, rule 6): a comment re-runs nothing, an edit re-runs just what uses it."""

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

MODULE = "src/stillmotion/metrics/retrieval.py"


def stale_stages(project: Any) -> set[str]:
    """Stages of which dvc says that their digest has changed; nothing else has."""
    status = json.loads(project.dvc("status", "--json").out)
    for changes in status.values():
        (kinds,) = changes
        assert {path.split("/")[0] for path in kinds["changed deps"]} == {"code"}
    return set(status)


def scripts_of(project: Any) -> dict[str, str]:
    """The script of each stage of dvc.lock."""
    return {name: stage["cmd"].split()[1].removeprefix("src/") for name, stage in project.lock().items()}


def changed_digests(project: Any) -> set[str]:
    """Scripts whose digests are others than those in git."""
    names = project.git("diff", "--name-only", "code").splitlines()
    return {name.removeprefix("code/").replace(".txt", ".py") for name in names}


def test_a_comment_and_a_docstring_re_run_the_digests_alone(clone):
    path = clone.root / MODULE
    text = path.read_text(encoding="utf-8")
    head, _, rest = text.partition('"""')
    path.write_text(f'{head}"""Another beginning. {rest}\n# and a remark\n', encoding="utf-8")
    run = clone.dvc("repro")
    assert run.stages == ["code"]
    assert changed_digests(clone) == set()
    # Only what the digests were made of is another.
    assert clone.git("diff", "--name-only").splitlines() == ["dvc.lock", MODULE]
    assert clone.dvc("repro", "--dry").stages == []


def test_a_statement_re_runs_exactly_the_stages_whose_script_imports_it(clone):
    with (clone.root / MODULE).open("a", encoding="utf-8") as file:
        file.write("ONE_MORE = 1\n")
    assert clone.dvc("repro", "code").stages == ["code"]
    changed = changed_digests(clone)
    assert {"evaluate_retrieval.py", "train_aggregator.py"} <= changed
    assert not changed & {"download.py", "sample_frames.py", "detect_shots.py", "backbone.py", "expand_backbone.py"}
    wanted = {name for name, script in scripts_of(clone).items() if script in changed}
    assert wanted
    assert stale_stages(clone) == wanted
    # With each the digest of the one module that was edited, and no other line.
    for script in changed:
        lines = clone.git("diff", "--unified=0", f"code/{script.replace('.py', '.txt')}").splitlines()
        added = [line for line in lines if line.startswith("+") and not line.startswith("+++")]
        assert [line.split()[-1] for line in added] == [MODULE.removeprefix("src/")]


def test_a_param_re_runs_the_digests_which_stay_as_they_are(clone):
    clone.set_params({"evaluate_actions.seed": 7})
    assert clone.dvc("repro", "code").stages == ["code"]
    assert changed_digests(clone) == set()
    assert clone.git("diff", "--name-only").splitlines() == ["dvc.lock", "params.yaml"]
