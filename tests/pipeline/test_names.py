"""A name that leads out of its folder is refused before dvc, which empties a stage's outs, has touched any.

Some of these names make two stages of one path, which dvc itself refuses before it runs anything, in words of its own.
With all others stage `code` runs first, and says what to mend.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

RECORD = {"from": "small_clip", "recipe": "patch_dropout", "seed": 0}
SYSTEM = {"model": "small_clip-patch_dropout", "scorer": "mean"}


@pytest.fixture(scope="module")
def touched_by_nobody(copy_lab: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the lab with videos of the user's own, a folder beside data/ and one beside the copy."""
    project = copy_lab(tmp_path_factory.mktemp("names"))
    for folder in ("data/sources/mine", "x", "../x"):
        path = project.root / folder / "my video.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"mine")
    return project


@pytest.fixture
def place(touched_by_nobody: Any) -> Any:
    """The same for all, as no test may touch more of it than params and digests."""
    touched_by_nobody.git("checkout", "--quiet", "params.yaml", "dvc.lock", "code")
    return touched_by_nobody


def files_of(project: Any) -> dict[str, tuple[int, bytes]]:
    """Every file beside and in the clone, when it was written and what it holds; but for git's, dvc's and digests."""
    top = project.root.parent
    free = {".git", ".dvc", "code", "__pycache__", "params.yaml"}
    return {
        path.relative_to(top).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(top.rglob("*"))
        if path.is_file() and not free.intersection(path.relative_to(top).parts[1:])
    }


def check_refusal(project: Any, run: Any, before: dict[str, tuple[int, bytes]], mend: str) -> None:
    """The run has failed and no file has changed; stage `code`, where dvc came to it, says the `mend` in one line."""
    assert run.status != 0
    after = files_of(project)
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []
    assert not list(project.root.rglob("hacked"))
    # No stage but the one that checks.
    assert run.stages in ([], ["code"])
    assert "Traceback" not in run.text
    if run.stages:
        (line,) = [line for line in run.err.splitlines() if line.startswith("digest_code: error: ")]
        assert line.startswith(f"digest_code: error: params.yaml: {mend}")
    else:
        assert any(line.startswith("ERROR: ") for line in run.err.splitlines())
    assert bool(mend) == bool(run.stages)


NO_NAME = "can't be a name, as it stands in paths and commands; take letters, digits"


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("..", ""),
        ("../sources/mine", ""),
        ("../../x", ""),
        ("../../../x", ""),
        ("", ""),
        (".", f"dataset: '.' {NO_NAME}"),
        ("a b", f"dataset: 'a b' {NO_NAME}"),
        ("toy; touch hacked", f"dataset: 'toy; touch hacked' {NO_NAME}"),
        ("$(touch hacked)", f"dataset: '$(touch hacked)' {NO_NAME}"),
        ("toy/", f"dataset: 'toy/' {NO_NAME}"),
        ("/", f"dataset: '/' {NO_NAME}"),
        ("mine/..", f"dataset: 'mine/..' {NO_NAME}"),
        (2024, "dataset: 2024 is a number to YAML and no name; put another letter into it"),
    ],
)
def test_a_dataset_that_is_no_name_touches_nothing(place, name, mend):
    place.set_params({"dataset": name})
    before = files_of(place)
    check_refusal(place, place.dvc("repro", status=None), before, mend)


@pytest.mark.parametrize(
    ("section", "name", "record", "mend"),
    [
        ("finetuned", "..", RECORD, ""),
        ("finetuned", "../aggregators", RECORD, ""),
        ("finetuned", "../../x", RECORD, f"finetuned: '../../x' {NO_NAME}"),
        ("finetuned", "../../../x", RECORD, f"finetuned: '../../../x' {NO_NAME}"),
        ("finetuned", "../../data/sources/mine", RECORD, f"finetuned: '../../data/sources/mine' {NO_NAME}"),
        ("finetuned", "a.b", RECORD, "finetuned: the name 'a.b' has a dot in it"),
        ("retrieval", "../../x", SYSTEM, ""),
        ("retrieval", "../x", SYSTEM, f"retrieval: '../x' {NO_NAME}"),
        ("retrieval", "$(touch hacked)", SYSTEM, f"retrieval: '$(touch hacked)' {NO_NAME}"),
    ],
)
def test_a_record_whose_key_is_no_name_touches_nothing(place, section, name, record, mend):
    """With the records of the lab beside it, whose outs must stay as well."""
    models = {"small_clip-patch_dropout": RECORD}
    systems = {f"{SYSTEM['model']}-{scorer}": SYSTEM | {"scorer": scorer} for scorer in ("mean", "transformer_mean")}
    place.set_params({section: {"finetuned": models, "retrieval": systems}[section] | {name: record}})
    before = files_of(place)
    check_refusal(place, place.dvc("repro", status=None), before, mend)


@pytest.mark.parametrize(
    ("name", "mend"),
    [("..", ""), ("../sources/mine", ""), ("a/b", f"dataset: 'a/b' {NO_NAME}"), ("2024", "dataset: 2024 is a number")],
)
def test_an_experiment_on_a_dataset_that_is_no_name_touches_nothing(place, name, mend):
    before = files_of(place)
    run = place.dvc("exp", "run", "--temp", "--set-param", f"dataset={name}", status=None)
    check_refusal(place, run, before, mend)
    assert place.git("status", "--porcelain", "params.yaml", "dvc.lock", "code") == ""


def test_digests_that_a_refusal_interrupts_are_there_all_the_same(place):
    place.set_params({"dataset": "a b"})
    before = place.digests("code")
    place.dvc("repro", status=None)
    assert place.digests("code") == before
    assert Path(place.root / "code" / "download.txt").is_file()
