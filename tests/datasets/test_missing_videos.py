"""Benchmarks of which only some videos are there, through the stage scripts."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import ruamel.yaml

from stillmotion.datasets.benchmark import known_durations
from stillmotion.errors import InputError
from stillmotion.io.records import Action, Caption, Moment, Video, load_records, save_records
from stillmotion.io.tables import read_json, read_rows, write_json, write_rows
from stillmotion.video.packed import PackedFrames

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(run_script, workplace) -> Callable[..., str]:
    """The log of a stage script."""

    def log_of(script: str, *arguments: str, status: int = 0) -> str:
        done = run_script(script, *arguments, cwd=workplace)
        assert done.returncode == status, done.stderr
        return done.stderr

    return log_of


def make_video(path: Path, seconds: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(10 * seconds):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode())


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The root of a repository with small frames."""
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["download"]["benchmarks"]["validation_fraction"] = 0.0
    params["sample_frames"].update(size_px=16, max_skip_fraction=0.0)
    yaml.dump(params, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "STILLMOTION_WORKERS", "1")
    monkeypatch.setitem(os.environ, "STILLMOTION_MEMO", "off")
    return tmp_path


def described(duration: float, *sentences: tuple[float, float, str]) -> dict:
    return {
        "duration": duration,
        "timestamps": [[start, end] for start, end, _ in sentences],
        "sentences": [text for _, _, text in sentences],
    }


def test_activitynet_with_missing_videos_runs_and_counts_them(workplace, run):
    source = workplace / "data" / "sources" / "activitynet"
    make_video(source / "videos" / "train" / "a.mp4", 6)
    make_video(source / "videos" / "v_c.mkv", 4)
    make_video(source / "videos" / "other.mp4", 1)
    train = {"v_a": described(8, (0, 3, "One."), (3, 8, " Two."), (7, 8, " Three.")), "v_b": described(5, (0, 3, "x"))}
    test = {"v_c": described(4, (0, 2, "y")), "v_d": described(9, (1, 2, "z"), (5, 4, "w"))}
    (source / "train.json").write_text(json.dumps(train))
    (source / "val_1.json").write_text(json.dumps(test))

    log = run("download", "--source", "data/sources/activitynet", "--output", "data/raw/activitynet")
    assert "videos: 2 train (1 missing), 0 validation, 2 test (1 missing)" in log
    assert "2 of 4 videos are missing:\n  v_b: missing\n  v_d: missing\n" in log
    assert "1 files are no videos that the annotations name and were left out: other.mp4" in log
    assert "1 sentences start past the end of their video: left out" in log
    assert "can't be read" not in log
    raw = workplace / "data" / "raw" / "activitynet" / "tables"
    rows = {video.video_id: video for video in load_records(raw, Video)}
    assert rows["v_a"] == Video(
        "v_a", "data/sources/activitynet/videos/train/a.mp4", "train", 6.0, 10.0, 60, 32, 32, "h264", "ok"
    )
    assert rows["v_b"] == Video("v_b", "", "train", None, None, None, None, None, None, "missing")
    assert [caption.text for caption in load_records(raw, Caption) if caption.video_id == "v_a"] == [
        "One. Two. Three.", "One.", "Two."
    ]  # fmt: skip
    assert [(row.qid, row.vid, row.duration, row.relevant_windows) for row in load_records(raw, Moment)] == [
        (0, "v_a", 6.0, [[0, 3]]), (1, "v_a", 6.0, [[3, 6]]), (3, "v_b", 5.0, [[0, 3]]), (4, "v_c", 4.0, [[0, 2]]),
        (5, "v_d", 9.0, [[1, 2]])
    ]  # fmt: skip
    assert load_records(raw, Action) == []

    log = run("sample_frames", "--raw", "data/raw/activitynet/tables", "--output", "data/frames/activitynet")
    assert "2 decoded, 0 from the memo, 2 skipped" in log
    store = PackedFrames(workplace / "data" / "frames" / "activitynet")
    assert [video.video_id for video in store.videos] == ["v_a", "v_c"]
    assert [(row["video_id"], row["reason"]) for row in read_rows(store.folder / "skipped.jsonl")] == [
        ("v_b", "missing"), ("v_d", "missing")
    ]  # fmt: skip


def test_msrvtt_becomes_captions_and_a_video_that_cannot_be_read_is_not_a_missing_one(workplace, run):
    source = workplace / "data" / "sources" / "msrvtt"
    make_video(source / "videos" / "video0.mp4", 2)
    (source / "videos" / "video1.mp4").write_text("no video")
    for name, member, clips in (
        ("train_val_annotation.zip", "train_val_videodatainfo.json", {"video0": "train", "video1": "validate"}),
        ("test_videodatainfo.json.zip", "test_videodatainfo.json", {"video2": "test"}),
    ):
        videos = [{"video_id": clip, "split": split, "start time": 3, "end time": 5} for clip, split in clips.items()]
        sentences = [{"video_id": clip, "caption": f"{clip} {number}"} for number in range(2) for clip in clips]
        with zipfile.ZipFile(source / name, "w") as archive:
            archive.writestr(member, json.dumps({"videos": videos, "sentences": sentences}))

    log = run("download", "--source", "data/sources/msrvtt", "--output", "data/raw/msrvtt")
    assert "videos: 1 train, 1 validation, 1 test (1 missing)" in log
    assert "1 of 3 videos are missing:\n  video2: missing\n" in log
    assert "1 of 3 videos can't be read:\n  video1: not a video" in log
    captions = load_records(workplace / "data" / "raw" / "msrvtt" / "tables", Caption)
    assert [caption.text for caption in captions] == [f"video{clip} {number}" for clip in range(3) for number in (0, 1)]
    log = run("sample_frames", "--raw", "data/raw/msrvtt/tables", "--output", "data/frames/msrvtt", status=2)
    assert "1 of 1 validation videos are lost (data/sources/msrvtt/videos/video1.mp4: not a video" in log
    assert "test videos are lost" not in log


def test_of_a_didemo_video_the_first_30_seconds_are_stored(workplace, run):
    source = workplace / "data" / "sources" / "didemo"
    make_video(source / "videos" / "a.mov.mp4", 33)
    row = {"annotation_id": 4, "video": "a.mov", "description": "x", "times": [[5, 5]] * 4}
    for split in ("train", "val", "test"):
        (source / f"{split}_data.json").write_text(json.dumps([row] if split == "test" else []))
    run("download", "--source", "data/sources/didemo", "--output", "data/raw/didemo")
    (video,) = load_records(workplace / "data" / "raw" / "didemo" / "tables", Video)
    assert (video.video_id, video.duration, video.num_frames) == ("a", 30.0, 330)
    (moment,) = load_records(workplace / "data" / "raw" / "didemo" / "tables", Moment)
    assert (moment.qid, moment.duration, moment.annotated_windows) == (4, 30.0, [[25.0, 30.0]] * 4)
    run("sample_frames", "--raw", "data/raw/didemo/tables", "--output", "data/frames/didemo")
    store = PackedFrames(workplace / "data" / "frames" / "didemo")
    assert store.videos[0].duration == 30.0
    assert len(store.clip_indices("a")) == 15
    assert store.timestamps("a").max() < 30.0


def test_a_benchmark_without_any_video_ends_in_one_line_and_status_2(workplace, run):
    source = workplace / "data" / "sources" / "activitynet"
    source.mkdir(parents=True)
    (source / "train.json").write_text(json.dumps({"v_a": described(8, (0, 3, "One."))}))
    (source / "val_1.json").write_text("{}")
    log = run("download", "--source", "data/sources/activitynet", "--output", "data/raw/activitynet", status=2)
    assert log.startswith("download: error: data/sources/activitynet/videos: none of the 1 videos that the annotatio")
    assert len(log.splitlines()) == 1
    assert not (workplace / "data" / "raw").exists() or not any((workplace / "data" / "raw").iterdir())


@pytest.fixture
def embedded(workplace):
    """Raw tables of four test videos of 6 s, one of them missing, and embeddings of two classes and queries."""
    raw, folder = workplace / "raw", workplace / "embeddings"
    ids = ["a", "b", "c", "gone"]
    videos = [
        Video(name, "", "test", None, None, None, None, None, None, "missing" if name == "gone" else "ok")
        for name in ids
    ]
    labels = {"a": "run", "b": "jump", "c": "run", "gone": "sit"}
    actions = [Action(name, label, 0.0, 6.0) for name, label in labels.items()]
    moments = [Moment(number, "x", name, 6.0, [[0.0, 2.0]], [0], []) for number, name in enumerate(ids)]
    raw.mkdir()
    save_records(raw, Video, videos)
    save_records(raw, Action, actions)
    save_records(raw, Moment, moments)
    folder.mkdir()
    save_records(folder, Action, actions[:3])
    write_rows(
        folder / "index.jsonl",
        [
            {"video_id": name, "split": "test", "duration": 6.0, "offset": 3 * row, "count": 3,
             "uniform": [0, 1, 2], "clips": [0, 1, 2]}
            for row, name in enumerate(ids[:3])
        ],
    )  # fmt: skip
    system = dict.fromkeys(("expansion", "pretraining", "recipe", "seed")) | {"model": "m", "base": "m"}
    write_json(folder / "model.json", {"dim": 2, "span_views": 3, "system": system})
    write_json(folder / "classes.json", ["jump", "run"])
    east, north = [1.0, 0.0], [0.0, 1.0]
    # Video c looks like a jump; each video's first clip is what is asked for, but that of c.
    arrays = {
        "actions": [north, east, east],
        "classes": [east, north],
        "queries": [east] * 4,
        "frames": [east, north, north, east, north, north, north, north, east],
    }
    for name, rows in arrays.items():
        np.save(folder / f"{name}.npy", np.array(rows, dtype=np.float32))
    return workplace


def test_actions_of_missing_videos_count_as_named_wrongly_in_the_pessimistic_value(run, embedded):
    probes = embedded / "probes"
    probes.mkdir()
    write_rows(probes / "probes.jsonl", [{"shots": 1, "seed": seed, "validation_top1": 50.0} for seed in (0, 1)])
    right, wrong = [[1.0, 0, 0], [0, 1.0, 0]], [[0, 1.0, 0], [1.0, 0, 0]]
    np.save(probes / "weights.npy", np.array([right, wrong], dtype=np.float64))
    paths = ("--probes", "probes", "--raw", "raw", "--embeddings", "embeddings")
    run("evaluate_actions", *paths, "--metrics", "metrics.json", "--predictions", "named", "--plot", "plot.json")
    found = read_json(embedded / "metrics.json")
    # Two of the three spans that are there are named rightly, and two of all four.
    assert found["zero_shot"]["top1"] == pytest.approx(200 / 3, abs=1e-4)
    assert found["zero_shot"]["pessimistic"] == {"top1": 50.0, "top5": 75.0}
    assert found["top1"]["1"]["runs"] == pytest.approx([200 / 3, 100 / 3], abs=1e-4)
    assert (found["top1"]["1"]["mean"], found["top1"]["1"]["pessimistic"]) == (50.0, 37.5)
    protocol = found["protocol"]
    assert {name: protocol[name] for name in ("num_spans", "num_videos")} == {"num_spans": 3, "num_videos": 3}
    assert {name: count for name, count in protocol.items() if name.startswith("missing")} == {
        "missing_videos": 1, "missing_spans": 1, "missing_classes": 1
    }  # fmt: skip
    assert (protocol["span_views"], protocol["selected_on"]) == (3, "validation")
    assert [path.name for path in (embedded / "named").iterdir()] == ["spans.jsonl"]
    spans = [("a", "run", "run", ["run", "jump"]), ("b", "jump", "jump", ["jump", "run"])]
    assert read_rows(embedded / "named" / "spans.jsonl") == [
        {"video_id": video, "label": label, "start": 0.0, "end": 6.0, "zero_shot": named, "probes": {"1": probed}}
        for video, label, named, probed in [*spans, ("c", "run", "jump", ["jump", "run"])]
    ]


def test_without_actions_there_are_no_spans_to_name(run, embedded):
    for folder in ("raw", "embeddings"):
        save_records(embedded / folder, Action, [])
    write_json(embedded / "embeddings" / "classes.json", [])
    for name in ("actions", "classes"):
        np.save(embedded / "embeddings" / f"{name}.npy", np.zeros((0, 2), np.float32))
    (embedded / "probes").mkdir()
    write_rows(embedded / "probes" / "probes.jsonl", [])
    np.save(embedded / "probes" / "weights.npy", np.zeros((0, 0, 3)))
    paths = ("--probes", "probes", "--raw", "raw", "--embeddings", "embeddings")
    log = run("evaluate_actions", *paths, "--metrics", "metrics.json", "--predictions", "named", "--plot", "plot.json")
    assert "the test split has no actions: an empty result" in log
    assert read_json(embedded / "metrics.json")["protocol"]["selected_on"] is None
    assert (embedded / "named" / "spans.jsonl").read_bytes() == b""


def test_queries_about_missing_videos_count_as_answered_wrongly_in_the_pessimistic_value(run, embedded):
    (embedded / "thresholds").mkdir()
    found = {
        "method": "vc1", "post_processing": "none", "frozen_range": None, "least_cosine": 1e-6,
        "parameters": {"threshold": 0.5},
    }  # fmt: skip
    write_json(embedded / "thresholds" / "thresholds.json", found)
    for table in ("trials.jsonl", "sensitivity.jsonl"):
        (embedded / "thresholds" / table).touch()
    paths = ("--scorer", "vc1_none", "--thresholds", "thresholds", "--raw", "raw", "--embeddings", "embeddings")
    run("evaluate_moments", *paths, "--metrics", "metrics.json", "--predictions", "predictions")
    metrics = read_json(embedded / "metrics.json")
    # a and b are answered with [0, 2], c with [4, 6]; nobody can answer the fourth.
    assert metrics["brief"]["MR-full-R1@0.5"] == 66.67
    assert metrics["mIoU"] == pytest.approx(200 / 3, abs=1e-4)
    assert metrics["pessimistic"].keys() == metrics["ci95"].keys()
    assert metrics["pessimistic"] == pytest.approx(dict.fromkeys(metrics["ci95"], 50.0), abs=0.01)
    protocol = metrics["protocol"]
    assert (protocol["num_queries"], protocol["num_videos"]) == (3, 3)
    assert (protocol["missing_queries"], protocol["missing_videos"]) == (1, 1)


def test_a_stated_duration_of_centuries_is_refused_with_the_limit():
    with pytest.raises(InputError, match=r"video 'v': stated to last 1e\+10 s; the most is 604,800 s"):
        known_durations({"v": 1e10}, {})
