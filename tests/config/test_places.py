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
        "others": "set:\n  backbones:\n    clip:\n      family: open_clip\n    clipped: {}\n",
        "runs": "set:\n  run.backbones: [clip]\n  run:\n    embedded: [clip]\n",
    }
    for name, text in texts.items():
        (tmp_path / "experiments" / f"{name}.yaml").write_text(text)


@pytest.mark.parametrize(
    ("running", "block", "file"),
    [
        (None, "clip", "params.yaml"),
        ("clip", "clip", "experiments/clip.yaml"),
        ("clip-dataset-mine", "clip", "experiments/clip.yaml"),
        ("clip_16", "clip", "experiments/clip_16.yaml"),
        ("others", "clip", "experiments/others.yaml"),
        ("runs", "clip", "experiments/clip.yaml or experiments/clip_16.yaml or experiments/others.yaml"),
        ("others", "small_clip", "params.yaml"),
        ("others", "clipped", "experiments/others.yaml"),
        ("others", "c.ip", "params.yaml"),
    ],
)
def test_a_block_is_changed_where_the_running_experiment_sets_it(running, block, file, monkeypatch):
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    if running:
        monkeypatch.setenv("DVC_EXP_NAME", running)
    assert file_of("backbones", block) == file


def test_within_an_experiment_the_option_that_needs_no_edit_is_told_too(monkeypatch):
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    assert how_to_set("backbones.clip", "pretrained", "file") == "set backbones.clip.pretrained: file in params.yaml"
    monkeypatch.setenv("DVC_EXP_NAME", "clip-dataset-mine")
    told = "set backbones.clip.pretrained: file in experiments/clip.yaml, or give --set backbones.clip.pretrained=file"
    assert how_to_set("backbones.clip", "pretrained", "file") == told
