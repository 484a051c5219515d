"""The stage on two train videos and a lost one, worked by hand."""

from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml

from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Moment, Video, save_records
from stillmotion.io.tables import read_json, write_json, write_rows

ROOT = Path(__file__).resolve().parents[1]

MODEL = {"model": "tuned", "base": "small", "expansion": None, "pretraining": None, "recipe": "all", "seed": 1}


def at_cosine(value: float) -> list[float]:
    return [value, float(np.sqrt(1 - value**2))]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Two train videos, and a lost one; normed curves [0, 0.5, 1] and [1, 0, 0.6]; true are 1 and 2, and 0."""
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["sample_frames"].update(clip_length_s=2.0)
    params["assess_backbone"].update(split="train", thresholds=[0.45, 0.55, 0.65])
    yaml.dump(params, tmp_path / "params.yaml")
    videos = [
        EmbeddedVideo("a", "train", 6.0, 0, 3, [0], [0, 1, 2]),
        EmbeddedVideo("b", "train", 6.0, 3, 3, [0], [0, 1, 2]),
    ]
    write_rows(tmp_path / "embeddings" / "index.jsonl", [video.row() for video in videos])
    write_json(tmp_path / "embeddings" / "model.json", {"dim": 2, "system": MODEL})
    frames = [at_cosine(value) for value in (0.2, 0.3, 0.4, 0.6, 0.1, 0.4)]
    save_array(tmp_path / "embeddings" / "frames.npy", np.array(frames, np.float32))
    save_array(tmp_path / "embeddings" / "queries.npy", np.array([[1, 0]] * 3, np.float32))
    moments = [Moment(1, "q", "a", 6.0, [[2.0, 6.0]], [1, 2], []), Moment(2, "q", "b", 6.0, [[0.0, 2.0]], [0], [])]
    save_records(tmp_path / "raw", Moment, [*moments, Moment(3, "q", "lost", 6.0, [[0.0, 2.0]], [0], [])])
    probed = (6.0, 30.0, 180, 64, 64, "h264", "ok")
    save_records(tmp_path / "raw", Video, [Video(name, f"{name}.mp4", "train", *probed) for name in ("a", "b", "lost")])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def assess(main_of):
    """The metrics file that the stage writes."""
    main = main_of("assess_backbone")

    def run():
        main(raw=Path("raw"), embeddings=Path("embeddings"), metrics=Path("metrics/model.json"))
        return read_json("metrics/model.json")

    return run


def test_the_mean_frame_iou_at_each_threshold_is_worked_by_hand(workplace, assess):
    result = assess()
    # at 0.45 IoU 1 and 1/2, at 0.55 1/2 and 1/2, at 0.65 1/2 and 1
    assert result["IoU"] == {"0.45": 75, "0.55": 50, "0.65": 75}
    assert result["mean_IoU"] == pytest.approx(200 / 3, abs=1e-4)
    low, high = result["ci95"]["mean_IoU"]
    assert low <= result["mean_IoU"] <= high
    assert result["protocol"] == {
        "split": "train",
        "num_queries": 2,
        "num_videos": 2,
        "missing_videos": 1,
        "missing_queries": 1,
        "method": "vc1",
        "post_processing": "norm",
        "clip_length_s": 2.0,
    }
    assert result["system"] == MODEL | {"scorer": None}


def test_without_moments_the_result_is_empty(workplace, assess, caplog):
    save_records(workplace / "raw", Moment, [])
    result = assess()
    assert "no moments" in caplog.text
    assert (result["IoU"], result["mean_IoU"], result["ci95"]) == ({}, None, {})
    assert result["protocol"]["num_queries"] == 0


def test_embeddings_that_are_not_there_are_refused(workplace, assess):
    (workplace / "embeddings" / "model.json").unlink()
    with pytest.raises(InputError, match="embeddings: no embeddings there"):
        assess()
    assert not Path("metrics").exists()
