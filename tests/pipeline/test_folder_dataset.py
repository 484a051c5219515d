"""Folders of people's own videos through the whole DAG."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

MODEL = "small_clip-patch_dropout"
NOT_OF_THE_DATASET = ["backbone@small_clip", "measure_resources@small_clip"]
"""Stages that read no video."""

TRAIN = ["plain.mp4", "with some spaces.mp4", "-dash first.mp4", "deep/er/still.mkv", "100% #1 & co.mp4", "lies.avi"]
VALIDATION = ["Übung ✂.mp4", "deep/日本語.mp4"]
TEST = ["deep/plain.mp4", "quote's.mp4", "UPPER.MP4"]
LOST_OF_TEST = {
    "empty.mp4": "empty file",
    "deep/truncated.mp4": "truncated",
    "sound only.mp4": "no video stream",
    "renamed.mp4": "not a video",
    "promises.avi": "truncated: 4.1 of 400.0 s are there",
}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def promise_frames(path: Path, count: int) -> None:
    """Have both headers of an AVI file state another number than the 32 frames that it holds."""
    content = bytearray(path.read_bytes())
    for chunk, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        place = content.index(chunk) + offset
        number = int.from_bytes(content[place : place + 4], "little")
        assert number == 32
        content[place : place + 4] = count.to_bytes(4, "little")
    path.write_bytes(content)


@pytest.fixture
def make_folder(make_clip: Callable[..., Path]) -> Callable[[Path], None]:
    """Fills a folder with good clips and bad files, and with the richest captions.csv."""

    def make(folder: Path) -> None:
        rows: list[list[str]] = []
        by_split = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
        clips = [(split, name) for split, names in by_split.items() for name in names]
        for number, (split, name) in enumerate(clips):
            make_clip(folder / name, seed=number)
            action = ("turn", "fall")[number % 2]
            rows += [
                [name, f"scene {number} begins, with a comma", "0", "1.5", split, action],
                [name, f"then scene {number} goes on", "1.5", "4", "", action],
            ]
        # Equal texts of one video are one query with two windows.
        rows += [["plain.mp4", "a flash", "0", "0.5", "", ""], ["plain.mp4", "a flash", "3", "3.5", "", ""]]
        # Two frames too many is a careless muxer, a hundred times as many a file that was longer once.
        shutil.copyfile(folder / "lies.avi", folder / "promises.avi")
        promise_frames(folder / "lies.avi", 34)
        promise_frames(folder / "promises.avi", 3200)
        whole = (folder / "plain.mp4").read_bytes()
        (folder / "empty.mp4").touch()
        (folder / "deep" / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
        write_sound(folder / "sound only.mp4")
        (folder / "renamed.mp4").write_text("This is a text.\n" * 50, encoding="utf-8")
        rows += [[name, f"what {name} would show", "", "", "test", ""] for name in LOST_OF_TEST]
        with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["video", "caption", "start", "end", "split", "action"], *rows])

    return make


def test_a_folder_with_every_awkward_file_goes_through_the_whole_dag(lab, clone, make_folder):
    make_folder(clone.root / "data" / "sources" / "mine")
    clone.dvc("add", "data/sources/mine")
    clone.commit("Add my videos")
    # Five of the eight test videos are lost on purpose.
    run = clone.dvc("exp", "run", "--set-param", "dataset=mine", "--set-param", "sample_frames.max_skip_fraction=0.7")
    same = lab.lock().keys() - {*NOT_OF_THE_DATASET, "download@toy", "sample_frames@toy"}
    assert run.stages == sorted(same | {"download@mine", "sample_frames@mine"})

    videos = {row["path"].removeprefix("data/sources/mine/"): row for row in read_rows_of(clone, "frames/mine/videos")}
    assert {name for name, row in videos.items() if row["status"] == "ok"} == {*TRAIN, *VALIDATION, *TEST}
    assert videos["lies.avi"]["num_frames"] == 32
    assert videos["deep/er/still.mkv"]["video_id"] == "deep/er/still"
    # Two files of one name in different folders are two videos, by their paths.
    assert {"plain", "deep/plain"} <= {row["video_id"] for row in videos.values()}

    skipped = {row["path"].removeprefix("data/sources/mine/"): row["reason"] for row in skipped_of(clone, "mine")}
    assert skipped.keys() == LOST_OF_TEST.keys()
    page = (clone.root / "reports" / "results" / "results.md").read_text(encoding="utf-8")
    assert "# Results on mine" in page
    for name, reason in LOST_OF_TEST.items():
        assert skipped[name].startswith(reason)
        # In the log and on the page too.
        assert f"{Path(name).stem}: {skipped[name]}" in run.err
        assert f"| {skipped[name]} |" in page

    moments = [row for row in read_rows_of(clone, "raw/mine/tables/moments") if row["query"] == "a flash"]
    assert [row["relevant_windows"] for row in moments] == [[[0.0, 0.5], [3.0, 3.5]]]
    protocols = protocols_of(clone)
    assert len(protocols) == 6
    for name, protocol in protocols.items():
        assert protocol["missing_videos"] == (len(LOST_OF_TEST) if protocol["split"] == "test" else 0), name
    assert protocols["retrieval/small_clip-patch_dropout-mean"]["num_queries"] == len(TEST)
    assert protocols["retrieval/small_clip-patch_dropout-mean"]["missing_queries"] == len(LOST_OF_TEST)
    assert protocols["moments/small_clip-patch_dropout-vc1_log_smooth_norm"]["num_queries"] == 2 * len(TEST)
    assert protocols["actions/small_clip-patch_dropout"]["num_spans"] == 2 * len(TEST)
    assert clone.dvc("repro").stages == []


def read_rows_of(project: Any, table: str) -> list[dict[str, Any]]:
    return read_rows(project.root / "data" / f"{table}.jsonl")


def skipped_of(project: Any, dataset: str) -> list[dict[str, Any]]:
    return read_rows_of(project, f"frames/{dataset}/skipped")


def protocols_of(project: Any) -> dict[str, dict[str, Any]]:
    """The protocol of each metrics file, but of the resources, which know no dataset."""
    metrics = project.root / "metrics"
    return {
        f"{path.parent.name}/{path.stem}": read_json(path)["protocol"]
        for path in sorted(metrics.glob("*/*.json"))
        if path.parent.name != "resources"
    }


def test_a_folder_without_times_and_actions_has_empty_results_for_them_and_a_report(clone, make_clip):
    folder = clone.root / "data" / "sources" / "plain"
    names = [f"{word}.mp4" for word in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")]
    for number, name in enumerate(names):
        make_clip(folder / name, seed=number)
    rows = [f"{name},number {name}" for name in names]
    (folder / "captions.csv").write_text("\n".join(["video,caption", *rows]) + "\n", encoding="utf-8")
    clone.dvc("add", "data/sources/plain")
    # The base model alone is quicker.
    for path in (clone.root / "metrics").rglob("*.json"):
        path.unlink()
    clone.set_params(
        {
            "dataset": "plain",
            "finetuned": {},
            "run.embedded": ["small_clip"],
            "retrieval": {"small_clip-mean": {"model": "small_clip", "scorer": "mean"}},
            "run.probed": ["small_clip"],
            "run.assessed": ["small_clip"],
            "run.selected": ["small_clip"],
        }
    )
    run = clone.dvc("repro")

    assert "moments.jsonl: empty, which is allowed" in run.err
    assert "actions.jsonl: empty, which is allowed" in run.err
    for stage, said in {
        "optimise_thresholds": "the train split has no moments: no thresholds, an empty result",
        "linear_probe": "fewer than two classes are embedded of the train split: no probe, an empty result",
        "evaluate_moments": "the dataset has no moments to test, or none to search thresholds on: an empty result",
        "evaluate_actions": "the test split has no actions: an empty result",
    }.items():
        assert said in run.err, stage
    metrics = clone.root / "metrics"
    moments = read_json(metrics / "moments" / "small_clip-vc1_log_smooth_norm.json")
    assert moments.keys() == {"protocol", "system"}
    assert moments["protocol"]["num_queries"] == 0
    actions = read_json(metrics / "actions" / "small_clip.json")
    assert (actions["zero_shot"], actions["top1"], actions["top5"]) == ({}, {}, {})
    retrieval = read_json(metrics / "retrieval" / "small_clip-mean.json")
    of_test = [row["video_id"] for row in read_rows_of(clone, "raw/plain/tables/videos") if row["split"] == "test"]
    assert retrieval["protocol"]["num_queries"] == len(of_test) > 0
    assert 0 <= retrieval["t2v"]["R@1"] <= 100
    assert "# Results on plain" in (clone.root / "reports" / "results" / "results.md").read_text(encoding="utf-8")
    assert clone.dvc("repro").stages == []

    # Another film of the same length and size changes no table.
    tables = {table: read_rows_of(clone, f"raw/plain/tables/{table}") for table in ("videos", "captions")}
    (folder / "one.mp4").unlink()
    make_clip(folder / "one.mp4", seed=len(names))
    assert "sample_frames@plain" in clone.dvc("repro", "sample_frames@plain").stages
    assert tables == {table: read_rows_of(clone, f"raw/plain/tables/{table}") for table in tables}


def test_a_folder_without_captions_goes_through_the_whole_dag(clone, make_clip):
    for number in range(10):
        make_clip(clone.root / "data" / "sources" / "bare" / f"{number}.mp4", seed=number)
    clone.dvc("add", "data/sources/bare")
    clone.commit("Add my videos")
    run = clone.dvc("exp", "run", "--set-param", "dataset=bare")

    for stage, said in {
        "finetune": "no captions to train on, so the model stays as it was",
        "train_aggregator": "fewer than two training videos: nothing can be trained, the result is empty",
        "evaluate_retrieval": "the test split has no captioned videos: an empty result",
    }.items():
        assert said in run.err, stage
    source = read_json(clone.root / "models" / "backbones" / MODEL / "source.json")
    assert source["selected_on"] == "nothing: no captions to train on"
    assert (source["system"]["model"], source["system"]["recipe"], source["system"]["seed"]) == (MODEL, None, None)
    weights = clone.digests("models/backbones/small_clip")
    kept = clone.digests(f"models/backbones/{MODEL}")
    assert {name for name, digest in weights.items() if kept[name] != digest} == {"source.json"}
    retrieval = read_json(clone.root / "metrics" / "retrieval" / f"{MODEL}-mean.json")
    assert (retrieval["t2v"], retrieval["system"]["recipe"]) == ({}, None)
    assert "# Results on bare" in (clone.root / "reports" / "results" / "results.md").read_text(encoding="utf-8")
    found = clone.run("stillmotion", "search", "a square", "--json")
    assert {row["video_id"] for row in json.loads(found.out)} <= {str(number) for number in range(10)}
    assert clone.dvc("repro").stages == []


@pytest.mark.real
@pytest.mark.parametrize("how", [[], ["--no-copy"]], ids=["in dvc", "as links"])
def test_from_25_real_files_without_captions_to_a_hit_it_is_two_commands(clone, real_material, tmp_path, how):
    for path in sorted((real_material / "videos").iterdir())[:25]:
        target = tmp_path / "my clips" / path.name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    added = clone.run("stillmotion", "add", tmp_path / "my clips", "--name", "mine", *how)
    assert "mine: 25 videos in" in added.out
    found = clone.run("stillmotion", "search", "a person plays the guitar", "--dataset", "mine", "--json")

    names = {row["video_id"] for row in read_rows_of(clone, "raw/mine/tables/videos") if row["status"] == "ok"}
    hits = json.loads(found.out)
    assert len(hits) == 10
    assert {hit["video_id"] for hit in hits} <= names
    assert "dvc exp run --temp" in found.err
    # Beside the workspace: its params and results are as they were.
    assert clone.git("status", "--porcelain") == ""
    again = clone.run("stillmotion", "search", "a person plays the guitar", "--dataset", "mine", "--json")
    assert again.out == found.out
    assert "dvc exp run" not in again.err


@pytest.mark.real
def test_real_videos_go_through_the_whole_dag(clone, real_material):
    folder = clone.root / "data" / "sources" / "real"
    shutil.copytree(real_material / "videos", folder, copy_function=shutil.copyfile)
    shutil.copyfile(real_material / "captions.csv", folder / "captions.csv")
    clone.dvc("add", "data/sources/real")
    systems = {f"{MODEL}-mean": {"model": MODEL, "scorer": "mean"}}
    clone.set_params({"dataset": "real", "retrieval": systems, "sample_frames.max_skip_fraction": 0.2})
    clone.dvc("repro")

    with (real_material / "captions.csv").open(encoding="utf-8", newline="") as file:
        captioned = {row["video"] for row in csv.DictReader(file)}
    assert len(captioned) == 33
    videos = {Path(row["path"]).name: row for row in read_rows_of(clone, "frames/real/videos")}
    assert videos.keys() == {path.name for path in (real_material / "videos").iterdir()}
    assert all(videos[name]["status"] == "ok" for name in captioned)
    skipped = {Path(row["path"]).name: row["reason"] for row in skipped_of(clone, "real")}
    assert skipped == {name: row["status"] for name, row in videos.items() if row["status"] != "ok"}
    assert "decord__corrupted.mp4" in skipped
    assert all(reason.strip() for reason in skipped.values())
    # A clip that cannot be had is told from one that nobody captioned.
    embedded = {row["video_id"] for row in read_rows(clone.root / "data/embeddings/real-small_clip/index.jsonl")}
    assert embedded == {row["video_id"] for row in videos.values() if row["status"] == "ok"}

    of_test = {row["video_id"] for row in videos.values() if row["split"] == "test"}
    captions = {row["video_id"] for row in read_rows_of(clone, "raw/real/tables/captions")}
    protocols = protocols_of(clone)
    retrieval = protocols[f"retrieval/{MODEL}-mean"]
    assert retrieval["num_queries"] == len(of_test & captions) > 3
    lost_of_test = sum(row["split"] == "test" for row in skipped_of(clone, "real"))
    assert protocols[f"actions/{MODEL}"]["missing_videos"] == lost_of_test
    assert "# Results on real" in (clone.root / "reports" / "results" / "results.md").read_text(encoding="utf-8")
