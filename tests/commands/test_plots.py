"""The page of the project's own plots, by its dvc.yaml and templates, as a browser without a network shows it."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browser import chromium, visited

from stillmotion import cli

ROOT = Path(__file__).resolve().parents[2]
LOSS = Path("plots/finetune/small_clip-patch_dropout.json")
SEEDS = Path("plots/train_aggregator/small_clip-transformer_mean.json")


def git(root, *arguments):
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project's plots, committed; since then the loss has fallen by a half."""
    root = tmp_path_factory.mktemp("project")
    for name in ("dvc.yaml", "params.yaml", ".dvc/config", ".dvc/plots", "plots"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (root / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, root / name)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "a")
    rows = json.loads((root / LOSS).read_text(encoding="utf-8"))
    (root / LOSS).write_text(json.dumps([row | {"loss": row["loss"] / 2} for row in rows]), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def plots(project, monkeypatch, capsys):
    """Run the command in the project; give what it printed."""

    def run(*arguments, status=0):
        monkeypatch.chdir(project)
        assert cli.run(["plots", *arguments]) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    return run


def titled(page, title):
    """The plot of that title once it is drawn."""
    plot = page.locator(".plots > div", has_text=title).first
    plot.locator("svg.marks").wait_for()
    return plot


def points(plot):
    return plot.locator("svg .mark-symbol.role-mark path").count()


@pytest.mark.slow
def test_the_page_draws_each_row_and_says_what_axes_and_colours_are_and_asks_no_network(plots, project, browser):
    assert plots() == "dvc_plots/index.html: 5 plots, 2 have no data\n"
    with visited(browser, (project / "dvc_plots/index.html").as_uri()) as (page, complaints, asked):
        loss = titled(page, "Fine-tuning of small_clip-patch_dropout")
        assert points(loss) == len(json.loads((project / LOSS).read_text(encoding="utf-8")))
        assert {"epoch", "loss on the training pairs", "revision", "workspace"} <= set(
            loss.locator("text").all_text_contents()
        )
        seeds = titled(page, "Aggregator of small_clip-transformer_mean")
        rows = json.loads((project / SEEDS).read_text(encoding="utf-8"))
        assert points(seeds) == len(rows)
        trainings = {f"{row['num_clips']} clip{'s' * (row['num_clips'] > 1)}, seed {row['seed']}" for row in rows}
        assert {"training", "R@1 on validation, %", *trainings} <= set(seeds.locator("text").all_text_contents())
        shots = titled(page, "Actions by small_clip")
        said = set(shots.locator("text").all_text_contents())
        assert {"training spans of each action", "top-1, %", "linear probe", "zero-shot, no training spans"} <= said
        assert complaints == []
        assert [request for request in asked if not request.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.slow
def test_a_difference_has_a_line_for_each_revision(plots, project, browser):
    assert plots("--diff", "HEAD", "--output", "diff.html").startswith("diff.html: ")
    with visited(browser, (project / "diff.html").as_uri()) as (page, _, _):
        loss = titled(page, "Fine-tuning of small_clip-patch_dropout")
        assert loss.locator("svg .mark-line.role-mark path").count() == 2
        assert {"HEAD", "workspace"} <= set(loss.locator("text").all_text_contents())


def asked_of_dvc(root, *options):
    command = [sys.executable, "-m", "dvc", "plots", "diff", "HEAD", "--json", "--out", str(root / "static"), *options]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True)
    plots = {name: of_name for name, of_name in json.loads(done.stdout)["data"].items() if of_name}
    return {name: plot for name, (plot,) in plots.items()}


def filled(template, definitions):
    """A template with each anchor's definition in its place, as DVC's extension for VS Code puts them there."""
    if isinstance(template, dict):
        return {key: filled(value, definitions) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, definitions) for value in template]
    return definitions.get(template, template)


@pytest.mark.slow
def test_the_extension_for_vs_code_is_handed_the_same_plots_with_a_place_for_its_sizes_and_colours(project):
    whole, split = asked_of_dvc(project), asked_of_dvc(project, "--split")
    assert len(split) == len(whole) > 0
    for name, plot in split.items():
        definitions = plot["anchor_definitions"]
        assert {"<DVC_METRIC_PLOT_WIDTH>", "<DVC_METRIC_PLOT_HEIGHT>"} <= set(definitions)
        spec = filled(plot["content"], definitions)
        assert "<DVC_METRIC" not in json.dumps(spec)
        sizes = {side: "container" for side in ("width", "height")}
        assert spec | sizes == whole[name]["content"] | sizes
    colours = split[LOSS.as_posix()]["anchor_definitions"]["<DVC_METRIC_COLOR>"]["scale"]["range"]
    svg = importlib.import_module("vl_convert").vegalite_to_svg(whole[LOSS.as_posix()]["content"])
    assert len(set(colours)) == 2
    assert all(f'stroke="{colour}"' in svg for colour in colours)


@pytest.mark.slow
def test_a_revision_that_git_has_not_is_told_in_a_line_and_nothing_is_written(plots, project):
    assert plots("--diff", "none", "--output", "none.html", status=2) == (
        "stillmotion: error: dvc plots diff: unknown Git revision 'none'\n"
    )
    assert not (project / "none.html").exists()


def test_without_the_extra_a_line_says_how_to_have_it(plots, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert plots(status=2) == ("stillmotion: error: plots needs vl-convert-python; pip install 'stillmotion[plots]'\n")


def test_titles_from_params_are_no_markup(monkeypatch, tmp_path, capsys):
    name = "</script><img src=x>"
    drawn = {"data": {name: [], "b": [{"type": "vega", "revisions": ["a"], "content": {"title": {"text": name}}}]}}
    monkeypatch.setattr("stillmotion.experiments.dvc_queue._dvc", lambda *arguments: json.dumps(drawn))
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda *arguments: "")
    assert cli.run(["plots", "--diff", name, "--output", str(tmp_path / "p.html")]) == 0
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<img" not in page.replace(page.split("<script>")[1].split("</script>")[0], "")
    assert page.count("</script>") == 2


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ({}, "dvc knows no plot with data here; run make repro"),
        ({"errors": [{"msg": "unable to read: 'dvc.yaml'"}]}, "dvc plots: unable to read: 'dvc.yaml'; mend that"),
    ],
)
def test_no_project_and_a_pipeline_that_dvc_cannot_read_are_one_line(monkeypatch, tmp_path, capsys, drawn, message):
    monkeypatch.setattr("stillmotion.experiments.dvc_queue._dvc", lambda *arguments: json.dumps(drawn))
    assert cli.run(["plots", "--output", str(tmp_path / "index.html")]) == 2
    assert message in capsys.readouterr().err
