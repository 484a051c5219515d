"""Two revisions of a repository whose systems take no time: their ranks and overlaps stand in params.yaml."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stillmotion import cli

pytestmark = pytest.mark.slow

EVALUATE = """\
import json, sys
from pathlib import Path
from ruamel.yaml import YAML

params = YAML(typ="safe").load(Path("params.yaml"))
task, system = sys.argv[1:]
folder = Path("data/predictions", task, system)
folder.mkdir(parents=True)
rows = [
    {"caption_id": f"c{n}", "video_id": f"v{n}", "text": f"a {params['shape']} moves {n} times", "rank": [value]}
    if task == "retrieval" else {"qid": n, "vid": f"v{n}", "query": f"a square spins {n} times", "top1_iou": value}
    for n, value in enumerate(params[task][system])
]
name = "ranks.jsonl" if task == "retrieval" else "queries.jsonl"
(folder / name).write_text("".join(json.dumps(row) + "\\n" for row in rows))
"""
MEASURE = """\
import json
from pathlib import Path
from ruamel.yaml import YAML

Path("metrics/resources").mkdir(parents=True, exist_ok=True)
vendor = YAML(typ="safe").load(Path("params.yaml"))["vendor"]
Path("metrics/resources/clip.json").write_text(json.dumps({"processor": f"{vendor}, avx2", "device": "cpu"}))
"""
STAGES = """\
stages:
  evaluate_retrieval:
    foreach: ${retrieval}
    do:
      cmd: python src/evaluate.py retrieval ${key}
      deps: [src/evaluate.py]
      params: [shape, "retrieval.${key}"]
      outs: ["data/predictions/retrieval/${key}"]
  evaluate_moments:
    foreach: ${moments}
    do:
      cmd: python src/evaluate.py moments ${key}
      deps: [src/evaluate.py]
      params: ["moments.${key}"]
      outs: ["data/predictions/moments/${key}"]
  measure_resources:
    cmd: python src/measure.py
    params: [vendor]
    metrics:
      - metrics/resources/clip.json:
          cache: false
"""
PARAMS = """\
shape: {shape}
vendor: AuthenticAMD
retrieval:
  kept: [1, 2, 3, 4, 5, 6, 7, 8]
  trained: [{ranks}]
  {third}: [1, 1, 1, 1, 1, 1, 1, 1]
moments:
  vc1: [0.9, 0.6, 0.4, 0.2]
"""
BEFORE = {"shape": "circle", "ranks": "9, 10, 1, 1, 12, 13, 14, 15", "third": "dropped"}
AFTER = BEFORE | {"ranks": "1, 1, 1, 1, 1, 1, 14, 20", "third": "added"}


def run(*command, root):
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def dvc(*arguments, root):
    return run(sys.executable, "-m", "dvc", *arguments, root=root)


def git(*arguments, root):
    return run("git", *arguments, root=root)


def build(root, tag, params):
    (root / "params.yaml").write_text(PARAMS.format(**params))
    dvc("repro", root=root)
    git("add", "--all", root=root)
    git("commit", "--quiet", "--message", tag, root=root)
    git("tag", tag, root=root)


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory):
    """No settings of the user's, and the stages' `python` is the tests'."""
    home = tmp_path_factory.mktemp("home")
    who = {f"GIT_{who}_{what}": "nobody@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    folders = {f"DVC_{kind}_DIR": str(home / kind) for kind in ("GLOBAL_CONFIG", "SYSTEM_CONFIG", "SITE_CACHE")}
    settings = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(home)}
    settings |= {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**who, **folders, **settings}.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def repository(tmp_path_factory, environment):
    """The commits `before`, `after` and `squares`, and after `after` the experiment `sharper`. Read only."""
    root = tmp_path_factory.mktemp("repository")
    (root / "src").mkdir()
    (root / "src" / "evaluate.py").write_text(EVALUATE)
    (root / "src" / "measure.py").write_text(MEASURE)
    (root / "dvc.yaml").write_text(STAGES)
    git("init", "--quiet", "--initial-branch", "main", root=root)
    git("commit", "--quiet", "--allow-empty", "--message", "empty", root=root)
    git("tag", "empty", root=root)
    dvc("init", root=root)
    build(root, "before", BEFORE)
    build(root, "after", AFTER)
    change = ["moments.vc1=[0.9,0.4,0.4,0.2]", "vendor=GenuineIntel"]
    settings = [word for setting in change for word in ("--set-param", setting)]
    dvc("exp", "run", "--temp", "--name", "sharper", *settings, root=root)
    build(root, "squares", AFTER | {"shape": "square"})
    git("checkout", "--quiet", "after", root=root)
    dvc("checkout", root=root)
    return root


@pytest.fixture
def copy(repository, tmp_path):
    """A copy of the repository to change."""
    return shutil.copytree(repository, tmp_path / "copy", symlinks=True)


@pytest.fixture
def compare(capsys):
    """Run the command; give what it printed."""

    def run(root, *arguments, status=0):
        assert cli.run(["compare", *arguments, "--root", str(root)]) == status
        captured = capsys.readouterr()
        if status:
            assert captured.out == ""
            assert captured.err.startswith("stillmotion: error: ")
            assert captured.err.count("\n") == 1
            return captured.err
        assert captured.err == ""
        return captured.out

    return run


def test_two_commits_are_compared_system_by_system(repository, compare):
    commits = [git("rev-parse", "--short=7", tag, root=repository) for tag in ("before", "after")]
    lines = compare(repository, "before", "after").splitlines()
    assert lines[0] == "retrieval: R@1 of 8 queries"
    assert lines[1].split() == f"system before ({commits[0]}) after ({commits[1]}) change 95 % interval p".split()
    # rank 1: 2 of 8 queries before, 6 after; four gained, none lost
    assert lines[2].split()[:4] == ["trained", "25.00", "75.00", "+50.00"]
    assert lines[3:] == [
        "2 systems are untouched: the same predictions",
        f"only before ({commits[0]}) has retrieval dropped",
        f"only after ({commits[1]}) has retrieval added",
    ]
    assert git("status", "--porcelain", root=repository) == ""


def test_the_object_holds_what_the_table_says(repository, compare):
    found = json.loads(compare(repository, "before", "after", "--metric", "MeanR", "--json"))
    assert found["first"] == {
        "revision": "before",
        "commit": git("rev-parse", "before", root=repository),
        "processors": ["AuthenticAMD, avx2"],
    }
    (trained,) = found["systems"]
    assert (trained["task"], trained["system"], trained["num_queries"]) == ("retrieval", "trained", 8)
    assert trained["lower_is_better"]
    # 9 + 10 + 1 + 1 + 12 + 13 + 14 + 15 = 75 and 6 + 14 + 20 = 40, of 8
    assert trained["first"] == {"MeanR": 9.375, "num_seeds": 1}
    assert trained["second"] == {"MeanR": 5, "num_seeds": 1}
    assert trained["change"] == -4.375
    assert trained["ci95"][0] <= -4.375 <= trained["ci95"][1]
    assert 0 < trained["p"] <= 1
    assert "first_better" not in trained
    # MeanR is of retrieval alone
    assert found["untouched"] == [{"task": "retrieval", "system": "kept"}]
    assert found["only_first"] == [{"task": "retrieval", "system": "dropped"}]
    assert found["only_second"] == [{"task": "retrieval", "system": "added"}]
    assert found["predictions_missing"] == []
    assert found["other_processor"] is False


def test_one_system_is_shown_with_the_queries_that_moved_most(repository, compare):
    lines = compare(repository, "before", "after", "--system", "trained").splitlines()
    better = next(number for number, line in enumerate(lines) if line.startswith("Better by after"))
    assert lines[better].endswith(": 4, most:")
    # from ranks 13, 12, 10 and 9 to 1
    assert [line.split()[4] for line in lines[better + 1 : better + 5]] == ["c5", "c4", "c1", "c0"]
    assert lines[better + 1] == "  rank 13 against 1: c5 in v5: a circle moves 5 times"
    # from rank 15 to 20, a miss as before
    assert lines[better + 5].startswith("Better by before")
    assert lines[better + 6 :] == ["  rank 15 against 20: c7 in v7: a circle moves 7 times"]
    untouched = compare(repository, "before", "after", "--system", "kept")
    assert untouched == "1 system is untouched: the same predictions\n"


def test_an_experiment_by_its_name_on_another_processor_is_told(repository, compare):
    lines = compare(repository, "after", "sharper").splitlines()
    assert lines[0] == (
        "baseline was computed on another processor (AuthenticAMD, avx2 against GenuineIntel, avx2): "
        "last digits, and with them a metric, may differ without the change"
    )
    assert lines[1] == "moments: R1@0.5 of 4 queries"
    # two of four overlap by half, then one
    assert lines[3].split()[:4] == ["vc1", "50.00", "25.00", "-25.00"]
    assert lines[4:] == ["3 systems are untouched: the same predictions"]
    found = json.loads(compare(repository, "after", "sharper", "--task", "moments", "--metric", "mIoU", "--json"))
    # 2.1 / 4 and 1.9 / 4
    assert found["systems"][0]["change"] == pytest.approx(-5)
    assert found["other_processor"] is True
    refs = git("for-each-ref", "--format=%(objectname)", "refs/exps/*/*/sharper", root=repository)
    assert found["second"]["commit"] == refs


def test_the_workspace_is_what_lies_there(copy, compare):
    assert compare(copy, "after", "workspace") == "4 systems are untouched: the same predictions\n"
    path = copy / "data" / "predictions" / "moments" / "vc1" / "queries.jsonl"
    text = path.read_text().replace("0.9", "0.1")
    path.unlink()  # it may be a link to the cache
    path.write_text(text)
    found = json.loads(compare(copy, "after", "workspace", "--json"))
    assert [(row["system"], row["change"]) for row in found["systems"]] == [("vc1", -25)]
    assert found["second"]["commit"] is None


def test_predictions_come_from_the_remote_and_where_they_are_nowhere_one_line_says_so(copy, tmp_path, compare):
    expected = compare(copy, "before", "after")
    dvc("remote", "add", "--local", "--default", "team", str(tmp_path / "remote"), root=copy)
    dvc("push", "--all-tags", root=copy)
    # As where the project has got its remote after these commits.
    (copy / ".dvc" / "config.local").rename(copy / ".dvc" / "config")
    cache = copy / ".dvc" / "cache"
    shutil.rmtree(cache)
    shutil.rmtree(copy / "data")
    assert compare(copy, "before", "after") == expected
    assert not (copy / "data").exists()

    shutil.rmtree(cache, ignore_errors=True)
    (tmp_path / "remote").rename(tmp_path / "gone")
    error = compare(copy, "before", "after", status=2)
    commit = git("rev-parse", "--short=7", "before", root=copy)
    assert "before:data/predictions/retrieval/trained/ranks.jsonl is neither in dvc's cache nor in its remote" in error
    assert f"fetch it with dvc pull in a checkout of {commit}, or make it again there with dvc repro" in error


def test_what_is_nowhere_does_not_hide_the_rest(copy, compare):
    lock = YAML(typ="safe").load(git("show", "before:dvc.lock", root=copy))
    digest = lock["stages"]["evaluate_retrieval@trained"]["outs"][0]["md5"]
    (copy / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]).unlink()
    lines = compare(copy, "before", "sharper").splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == ["system", "vc1"]
    assert lines[-1].startswith("left out: before:data/predictions/retrieval/trained/ranks.jsonl is neither in dvc's")
    (missing,) = json.loads(compare(copy, "before", "sharper", "--json"))["predictions_missing"]
    assert (missing["task"], missing["system"]) == ("retrieval", "trained")
    assert "is neither in dvc's cache" in compare(copy, "before", "sharper", "--system", "trained", status=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["after", "squares"], "after: retrieval added row 1 is c0 ('a circle moves 0 times' about v0), but squares: "),
        (
            ["after", "befor"],
            "befor: no commit, branch, tag or experiment, and no system of the workspace; did you mean",
        ),
        (["after", "sharpe"], "did you mean sharper?"),
        (["before:dvc.yaml", "after"], "before:dvc.yaml: no commit, branch, tag or experiment"),
        (["xxxxxx", "yyyyyy"], "xxxxxx: no commit, branch, tag or experiment"),
        (["after", "kept"], "after is a revision and kept a system of the workspace; give two of a kind"),
        (["kept", "trained", "--system", "kept"], "--system narrows two revisions to one system"),
        (["before", "after", "--system", "train"], "before has none of this name; did you mean 'trained'?"),
        (["before", "after", "--system", "added"], "--system added: before has none of this name"),
        (["before", "after", "--metric", "R@3"], "no such metric; for retrieval give one of R@1"),
        (["before", "after", "--task", "moments", "--metric", "R@1"], "for moments give one of R1@0.5"),
        (["empty", "after"], "empty: it has no .dvc folder; give a revision of a dvc project"),
    ],
)
def test_what_cannot_be_compared_is_one_line_with_the_mend(repository, compare, arguments, message):
    assert message in compare(repository, *arguments, status=2)


def test_a_name_of_several_experiments_is_refused_with_the_mend(copy, compare):
    git("checkout", "--quiet", "squares", root=copy)
    baseline = git("rev-parse", "before", root=copy)
    git("update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/sharper", "before", root=copy)
    error = compare(copy, "after", "sharper", status=2)
    assert "sharper: several experiments have this name; give the commit of one, see git for-each-ref" in error


def test_a_damaged_git_is_none(copy, compare):
    (copy / ".git/HEAD").unlink()
    assert "HEAD: no commit, branch, tag or experiment" in compare(copy, "HEAD", "workspace", status=2)


def test_a_pipeline_that_dvc_cannot_read_is_named(copy, compare):
    (copy / "dvc.yaml").write_text("stages: [")
    assert "workspace: dvc can't read its pipeline (" in compare(copy, "after", "workspace", status=2)


def test_a_setting_of_dvc_that_names_another_is_told(copy, compare):
    (copy / ".dvc/config").write_text("[core]\n    site_cache_dir = %(x)s/a\n")
    told = 'after: dvc can\'t read .dvc/config (missing option "x" in interpolation); take %(...)s out of it'
    assert told in compare(copy, "after", "workspace", status=2)


def test_two_systems_of_the_workspace_are_compared_as_ever(repository, compare):
    lines = compare(repository, "trained", "kept").splitlines()
    assert lines[0] == "R@1 of 8 queries"
    assert lines[3].split()[:2] == ["difference", "+62.50"]
