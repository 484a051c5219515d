import shutil

import pytest
import torch
from tiny_video_llms import SETTINGS, write

from stillmotion.backbones.video_llm import checkpoint
from stillmotion.backbones.video_llm.checkpoint import pretrained_video_llm
from stillmotion.backbones.video_llm.smolvlm import in_words
from stillmotion.config.video_llms import VideoLLMBackboneParams
from stillmotion.errors import InputError

REPOSITORY = "HuggingFaceTB/SmolVLM2-2.2B-Instruct"
COMMIT = "a2e27a78a2b5d802e894b8a1ef14f3a8ce490963"


def params(**changes):
    block = {"family": "video_llm", "checkpoint": REPOSITORY, "revision": "v1", "weights": "checkpoint", "seed": 0}
    return VideoLLMBackboneParams(**SETTINGS | block | changes)


def test_a_checkpoint_of_the_hub_comes_with_its_commit(monkeypatch, tmp_path):
    stored = write("smolvlm", tmp_path / "snapshots" / COMMIT)
    asked = []

    def fetch(repository, *, revision, allow_patterns):
        asked.append((repository, revision))
        assert "*.safetensors" in allow_patterns
        assert not any("bin" in pattern or pattern == "*" for pattern in allow_patterns)
        return str(stored)

    monkeypatch.setattr(checkpoint, "snapshot_download", fetch)
    monkeypatch.setattr(checkpoint, "try_hub", lambda: None)
    model, source = pretrained_video_llm("mine", params(), tmp_path / "weights")
    assert asked == [(REPOSITORY, "v1")]
    assert (source["checkpoint"], source["revision"], len(source["sha256"])) == (REPOSITORY, COMMIT, 64)
    assert model.family == "smolvlm"


def test_a_hub_that_is_out_of_reach_is_told_with_the_folder_to_fill(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise OSError("no route\nto it")

    monkeypatch.setattr(checkpoint, "snapshot_download", fail)
    monkeypatch.setattr(checkpoint, "try_hub", lambda: None)
    with pytest.raises(InputError) as caught:
        pretrained_video_llm("mine", params(), tmp_path / "weights")
    line = str(caught.value)
    assert line.startswith(f"backbone mine: can't fetch {REPOSITORY} at v1 (no route)")
    way = "and set backbones.mine.checkpoint: folder in params.yaml"
    assert line.endswith(f"put them in {(tmp_path / 'weights' / 'mine').as_posix()} {way}")


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match=r"mine/config\.json: no such file"):
        pretrained_video_llm("mine", params(checkpoint="folder"), tmp_path)


def test_weights_in_parts_are_read_and_kept_as_they_are(tmp_path):
    folder = write("qwen3_vl", tmp_path / "mine")
    whole, _ = pretrained_video_llm("mine", params(checkpoint="folder"), tmp_path)
    (folder / "model.safetensors").unlink()
    whole.model.save_pretrained(folder, max_shard_size="60KB")
    parts = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(parts) > 1
    split, _ = pretrained_video_llm("mine", params(checkpoint="folder"), tmp_path)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(split.model.state_dict()[name], value)
    split.save(tmp_path / "model", {})
    assert sorted(path.name for path in (tmp_path / "model").glob("model-*.safetensors")) == parts
    shutil.rmtree(folder)


def test_numbers_are_written_as_smolvlms_processor_wants_them():
    numbers = (0, 8, 13, 20, 21, 64, 100, 121, 999)
    assert [in_words(number) for number in numbers] == [
        "zero",
        "eight",
        "thirteen",
        "twenty",
        "twenty-one",
        "sixty-four",
        "one hundred",
        "one hundred and twenty-one",
        "nine hundred and ninety-nine",
    ]
