"""The stage on videos in which what the query asks for was planted."""

from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml

from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Moment, save_records
from stillmotion.io.tables import read_json, read_rows, write_json, write_rows

ROOT = Path(__file__).resolve().parents[1]
NUM_VIDEOS, NUM_FRAMES = 12, 10
TRIALS, POINTS = 15, 4


def write_dataset(folder: Path, *, split: str = "train", with_moments: bool = True) -> None:
    """Videos of 20 s whose frames 3 to 6 hold what their query asks for; clips lie at the stored rows as they are."""
    rng = np.random.default_rng(0)
    asked, other = np.eye(8)[:2]
    frames = np.array([[asked if 3 <= frame < 7 else other for frame in range(NUM_FRAMES)]] * NUM_VIDEOS)
    frames += 0.3 * rng.standard_normal(frames.shape)
    frames /= np.linalg.norm(frames, axis=2, keepdims=True)
    clips = list(range(NUM_FRAMES))
    write_rows(
        folder / "embeddings" / "index.jsonl",
        [
            EmbeddedVideo(f"v{n:02}", split, 20.0, n * NUM_FRAMES, NUM_FRAMES, [0], clips).row()
            for n in range(NUM_VIDEOS)
        ],
    )
    write_json(folder / "embeddings" / "model.json", {"dim": 8})
    save_array(folder / "embeddings" / "frames.npy", frames.reshape(-1, 8).astype(np.float32))
    moments = [Moment(n, "a query", f"v{n:02}", 20.0, [[6.0, 14.0]], [3, 4, 5, 6], []) for n in range(NUM_VIDEOS)]
    save_array(folder / "embeddings" / "queries.npy", np.array([asked] * NUM_VIDEOS, np.float32))
    save_records(folder / "raw", Moment, moments if with_moments else [])


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["optimise_thresholds"].update(trials=TRIALS, sensitivity_points=POINTS, seed=0)
    params["sample_frames"].update(clip_length_s=2.0)
    params["selections"]["vc2_log_smooth_norm_frames"] = {
        "method": "vc2",
        "post_processing": "log_smooth_norm",
        "least_cosine": 0.2,
        "objective": "frame_AP@0.5",
    }
    yaml.dump(params, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def optimise(main_of):
    """The stage; its output is a folder `thresholds` unless told otherwise."""
    main = main_of("optimise_thresholds")

    def run(selection, output="thresholds"):
        main(selection=selection, raw=Path("raw"), embeddings=Path("embeddings"), output=Path(output))

    return run


def test_thresholds_trials_and_sensitivity_belong_together(workplace, optimise):
    write_dataset(workplace)
    optimise("vc2_log_smooth_norm_frames")
    found = read_json("thresholds/thresholds.json")
    trials, sensitivity = (read_rows(f"thresholds/{name}.jsonl") for name in ("trials", "sensitivity"))
    assert (found["method"], found["post_processing"], found["objective"]) == ("vc2", "log_smooth_norm", "frame_AP@0.5")
    assert found["least_cosine"] == 0.2
    assert found["num_trials"] == len(trials) == TRIALS
    best = max(trials, key=lambda trial: trial["value"])
    assert found["best_value"] == best["value"] > 50  # chance is far from the planted frames
    assert found["parameters"] == {name: best[name] for name in ("threshold", "window", "change", "share")}
    assert [(row["parameter"], row["at"]) for row in sensitivity] == sorted(
        (row["parameter"], row["at"]) for row in sensitivity
    )
    for name, value in found["parameters"].items():
        rows = [row for row in sensitivity if row["parameter"] == name]
        assert {"parameter": name, "at": value, "value": found["best_value"]} in rows
        assert len(rows) == (10 if name == "window" else POINTS + 1)


def test_another_run_writes_the_same_bytes(workplace, optimise):
    write_dataset(workplace)
    for output in ("first", "second"):
        optimise("vc1_norm", output)
    names = sorted(path.name for path in (workplace / "first").iterdir())
    assert names == ["sensitivity.jsonl", "thresholds.json", "trials.jsonl"]
    for name in names:
        assert (workplace / "first" / name).read_bytes() == (workplace / "second" / name).read_bytes()


@pytest.mark.parametrize("dataset", [{"split": "test"}, {"with_moments": False}])
def test_without_moments_to_search_on_the_result_is_empty(workplace, optimise, caplog, dataset):
    write_dataset(workplace, **dataset)
    optimise("vc1_none")
    assert "no moments" in caplog.text
    assert read_json("thresholds/thresholds.json") is None
    assert read_rows("thresholds/trials.jsonl") == read_rows("thresholds/sensitivity.jsonl") == []


def test_an_unknown_selection_is_refused_with_the_nearest(workplace, optimise):
    write_dataset(workplace)
    with pytest.raises(InputError, match="selections has no 'vc1_norms'; did you mean 'vc1_norm'"):
        optimise("vc1_norms")
    assert not Path("thresholds").exists()
