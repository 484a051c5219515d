"""Which file a block of params is to be changed in."""

import pytest

from stillmotion.config.places import file_of, how_to_set


@pytest.fixture(autouse=True)
def experiments(tmp_path, monkeypatch):
    """Three that set backbones.clip, each in its own way, and one that only runs it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    texts = {
        "clip": "set:\n  backbones.clip:\n    family: open_clip\n",
        "clip_16": "base: clip\nset:\n  backbones.clip.pretrained: openai\n",
        "clip_long": "base: clip_16\nset:\n  backbones.longer.pretrained: openai\n",
        "others": "set:\n  backbones:\n    clip:\n      family: open_clip\n    clipped: {}\n",
        "runs": "set:\n  run.backbones: [clip]\n  run:\n    embedded: [clip]\n",
        "bare": "base: runs\n",
    }
    for name, text in texts.items():
        (tmp_path / "experiments" / f"{name}.yaml").write_text(text)


@pytest.fixture
def running(tmp_path):
    """Make the params those of an experiment, or of none."""

    def run(experiment):
        own = f"  experiment: {experiment}\n" if experiment else ""
        (tmp_path / "params.yaml").write_text(f"dataset: toy\nrun:\n  backbones: [clip]\n{own}")

    return run


@pytest.mark.parametrize(
    ("experiment", "block", "file"),
    [
        (None, "clip", "params.yaml"),
        ("clip", "clip", "experiments/clip.yaml"),
        ("clip_16", "clip", "experiments/clip_16.yaml"),
        ("clip_long", "clip", "experiments/clip_16.yaml"),
        ("clip_long", "longer", "experiments/clip_long.yaml"),
        ("others", "clip", "experiments/others.yaml"),
        ("runs", "clip", "params.yaml"),
        ("bare", "clip", "params.yaml"),
        ("others", "small_clip", "params.yaml"),
        ("others", "clipped", "experiments/others.yaml"),
        ("others", "clippe", "params.yaml"),
    ],
)
def test_a_block_is_changed_where_the_running_experiment_sets_it(experiment, block, file, running):
    running(experiment)
    assert file_of(f"backbones.{block}") == file


def test_within_an_experiment_the_option_that_needs_no_edit_is_told_too(running):
    running(None)
    assert how_to_set("backbones.clip", "pretrained", "file") == "set backbones.clip.pretrained: file in params.yaml"
    running("clip")
    told = "set backbones.clip.pretrained: file in experiments/clip.yaml, or give --set backbones.clip.pretrained=file"
    assert how_to_set("backbones.clip", "pretrained", "file") == told


@pytest.mark.parametrize("params", [None, "", "- 1\n", "run: 3\n", "lr: 0.1\n", "run:\n  experiment: gone\n"])
def test_outside_of_a_repository_and_without_the_file_there_is_one_to_name(tmp_path, params):
    if params is not None:
        (tmp_path / "params.yaml").write_text(params)
    assert file_of("backbones.clip") == "params.yaml"
