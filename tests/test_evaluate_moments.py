"""The stage that scores moments, on one dataset by hand: two test videos, one that is lost, one of train."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Moment, Video, save_records
from stillmotion.io.tables import read_json, read_rows, write_json, write_rows
from stillmotion.video.packed import PackedVideo, write_tables

ROOT = Path(__file__).resolve().parents[1]
# the stored frames that stand for the clips, the clips' cosines with every query, seconds, split
VIDEOS = {
    "a": ([0, 2, 3, 4, 5, 6], [0.1, 0.1, 0.9, 0.8, 0.2, 0.2], 12.0, "test"),
    "b": ([0, 1, 2, 3], [0.7, 0.1, 0.3, 0.95], 7.0, "test"),
    "t": ([0, 1], [0.5, 0.6], 4.0, "train"),
}
MOMENTS = [
    Moment(1, "q1", "a", 12.0, [[4.0, 8.0]], [2, 3], [[4, 4, 4], [2, 2, 2]]),
    Moment(2, "q2", "b", 7.0, [[0.0, 2.0], [4.0, 7.0]], [0, 2, 3], [[4, 4, 4], [1, 1, 1], [3, 3, 3]]),
    Moment(3, "q3", "lost", 4.0, [[0.0, 2.0]], [0], [[4, 4, 4]]),
    Moment(4, "q4", "t", 4.0, [[2.0, 4.0]], [1], [[4, 4, 4]]),
]
MODEL = {
    "model": "tuned",
    "base": "small",
    "expansion": None,
    "pretraining": None,
    "recipe": "all",
    "seed": 1,
}
THRESHOLDS = {
    "method": "vc1",
    "post_processing": "none",
    "least_cosine": 1e-6,
    "parameters": {"threshold": 0.5},
    "frozen_range": None,
}
SEARCHED = {
    "trials.jsonl": [{"number": 0, "value": 40.0, "threshold": 0.5}],
    "sensitivity.jsonl": [{"parameter": "threshold", "at": 0.5, "value": 40.0}],
}


def video(video_id, split, duration=None):
    return Video(video_id, f"{video_id}.mp4", split, duration, 10.0, 20, 64, 64, "h264", "ok")


def save_dataset(root: Path, moments: list[Moment]) -> None:
    """Raw tables, the frames store without its pixels, and embeddings of two dimensions."""
    videos = [video(name, split) for name, (*_, split) in VIDEOS.items()] + [video("lost", "test")]
    save_records(root / "raw", Video, videos)
    save_records(root / "raw", Moment, moments)
    packed, index, frames = {}, [], []
    for name, (clips, cosines, duration, split) in VIDEOS.items():
        count = clips[-1] + 1
        packed[name] = PackedVideo(
            {"duration": duration}, np.arange(count) * 1.0, np.array([0]), np.array(clips), False
        )
        index.append(EmbeddedVideo(name, split, duration, len(frames), count, [0], clips).row())
        cosine_of = dict(zip(clips, cosines, strict=True))
        stored = np.array([cosine_of.get(frame, 1.0) for frame in range(count)])
        frames += np.stack([stored, np.sqrt(1 - stored**2)], axis=1).tolist()
    (root / "frames").mkdir()
    write_tables(root / "frames", videos, packed, {"lost": "corrupt"})
    write_rows(root / "embeddings" / "index.jsonl", index)
    write_json(root / "embeddings" / "model.json", {"dim": 2, "system": MODEL})
    save_array(root / "embeddings" / "frames.npy", np.array(frames, np.float32))
    save_array(root / "embeddings" / "queries.npy", np.array([[1, 0]] * len(moments), np.float32).reshape(-1, 2))


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    save_dataset(tmp_path, MOMENTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def empty_workplace(tmp_path, monkeypatch):
    """The same without moments."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    save_dataset(tmp_path, [])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def evaluate(main_of):
    """Metrics, rows of the submission and rows of the queries that the stage writes."""
    main = main_of("evaluate_moments")

    def run(scorer, **paths):
        options = {name: Path(path) for name, path in paths.items()}
        main(scorer=scorer, raw=Path("raw"), metrics=Path("metrics.json"), predictions=Path("predictions"), **options)
        folder = Path("predictions")
        return read_json("metrics.json"), read_rows(folder / "submission.jsonl"), read_rows(folder / "queries.jsonl")

    return run


@pytest.fixture(scope="module")
def evaluate_selection(evaluate):
    def run(thresholds):
        write_json("thresholds/thresholds.json", thresholds)
        for name, rows in SEARCHED.items():
            write_rows(Path("thresholds", name), rows)
        return evaluate("vc1_none", thresholds="thresholds", embeddings="embeddings")

    return run


def counts(metrics):
    protocol = metrics["protocol"]
    return [protocol[name] for name in ("num_queries", "num_videos", "missing_videos", "missing_queries")]


def test_a_selection_is_scored_with_its_frames(workplace, evaluate_selection):
    metrics, submission, queries = evaluate_selection(THRESHOLDS)
    assert submission[0]["pred_relevant_windows"] == [[4.0, 8.0, 0.85]]
    assert submission[1]["pred_relevant_windows"] == [[6.0, 7.0, 0.95], [0.0, 2.0, 0.7]]
    assert submission[1]["pred_saliency_scores"] == [0.7, 0.1, 0.3, 0.95]
    assert metrics["mIoU"] == pytest.approx(66.6667)
    assert metrics["frames"]["IoU"] == pytest.approx(83.3333)  # 2 of 2 and 2 of 3 frames
    assert metrics["coverage"] == pytest.approx(80)
    assert metrics["pessimistic"]["MR-full-R1@0.5"] == pytest.approx(33.3333)
    assert metrics["HL-min-VeryGood"]["HL-Hit1"] == 50
    assert "boundaries" not in metrics
    assert [row["top1_iou"] for row in queries] == [1.0, 0.333333]
    assert counts(metrics) == [2, 2, 1, 1]
    assert metrics["system"] == MODEL | {"scorer": "vc1_none"}
    protocol = metrics["protocol"]
    assert (protocol["kind"], protocol["frames_from"], protocol["selected_on"]) == ("selection", "selection", "train")
    assert protocol["thresholds"] == THRESHOLDS
    assert (protocol["num_fallback"], protocol["num_clipped_cosines"]) == (0, 0)


def test_the_search_lies_beside_what_it_led_to(workplace, evaluate_selection):
    evaluate_selection(THRESHOLDS)
    assert {name: read_rows(Path("predictions", name)) for name in SEARCHED} == SEARCHED


def test_examples_go_from_the_best_to_the_worst(workplace, evaluate_selection):
    evaluate_selection(THRESHOLDS)
    best, worst = read_rows("predictions/examples.jsonl")
    assert (best["place"], best["qid"], worst["place"], worst["qid"]) == ("best", 1, "worst", 2)
    assert best["stored_frames"] == [0, 2, 3, 4, 5, 6]
    assert best["sc"] == best["processed"] == pytest.approx([0.1, 0.1, 0.9, 0.8, 0.2, 0.2])
    assert len(best["cfsc"]) == 5
    assert (best["cuts"], best["threshold"], best["clip_length_s"]) == ([], 0.5, 2.0)


def test_vc2_tells_whether_its_cuts_are_boundaries(workplace, evaluate_selection):
    parameters = {"threshold": 0.5, "change": 0.8, "share": 1.0}
    metrics, *_ = evaluate_selection(THRESHOLDS | {"method": "vc2", "parameters": parameters})
    # CFSc of `a` falls below 0.8 at frames 1 and 3, of `b` at 0 and 2: cuts at 4 and 8 s, at 2 and 6 s. True
    # boundaries inside the videos: 4 and 8 s of `a`, 4 s of `b`. By chance, of 5 places with 3 near: 9 of 10 pairs
    found = metrics["boundaries"]
    assert (found["recall"], found["precision"], found["tolerance_s"]) == (100, 100, 2.0)
    assert found["chance_recall"] == pytest.approx(100 * (0.9 + 0.9 + 1) / 3, abs=1e-3)
    assert found["above_chance"] == pytest.approx(100 * 0.2 / 3, abs=1e-3)
    assert found["ci95"] == [0, 10]
    assert (found["num_boundaries"], found["num_cuts"], found["num_videos"]) == (3, 4, 2)
    assert [row["cuts"] for row in sorted(read_rows("predictions/examples.jsonl"), key=lambda row: row["qid"])] == [
        [2, 4],
        [1, 3],
    ]


def test_shots_are_scored_by_their_similarity(workplace, evaluate):
    shots = {"a": [[0.0, 4.0], [4.0, 8.0], [8.0, 12.0]], "b": [[0.0, 7.0]]}
    rows = [{"video_id": name, "shots": found, "reason": None} for name, found in shots.items()]
    write_rows("shots/shots.jsonl", rows[:1] + [rows[1] | {"reason": "unreadable"}])
    write_json("shots/detector.json", {"detector": "content"})
    metrics, submission, queries = evaluate("content_shots", shots="shots", embeddings="embeddings")
    assert submission[0]["pred_relevant_windows"] == [[4.0, 8.0, 0.85], [8.0, 12.0, 0.2], [0.0, 4.0, 0.1]]
    assert submission[0]["pred_saliency_scores"] == [0.1, 0.1, 0.9, 0.8, 0.2, 0.2]
    assert submission[1]["pred_relevant_windows"] == [[0.0, 7.0, 0.5125]]
    assert [row["frame_iou"] for row in queries] == [1.0, 0.75]
    assert metrics["selected_share"] == 100
    protocol = metrics["protocol"]
    assert (protocol["kind"], protocol["frames_from"], protocol["thresholds"]) == ("shots", "top window", None)
    assert (protocol["detector"], protocol["num_unread_videos"]) == ({"detector": "content"}, 1)
    assert counts(metrics) == [2, 2, 1, 1]


@pytest.mark.parametrize(
    ("reference", "windows"),
    [
        ("whole_video", [[0.0, 7.0, 1.0]]),
        ("uniform_windows", [[round(0.7 * n, 6), round(0.7 * (n + 1), 6), 1.0] for n in range(10)]),
        ("oracle", [[0.0, 2.0, 1.0], [4.0, 7.0, 1.0]]),
    ],
)
def test_references_are_scored_on_the_same_queries(workplace, reference, windows, evaluate):
    metrics, submission, queries = evaluate(reference, frames="frames")
    assert [row["qid"] for row in submission] == [row["qid"] for row in queries] == [1, 2]
    assert submission[1]["pred_relevant_windows"] == windows
    assert "pred_saliency_scores" not in submission[1]
    assert not any(key.startswith("HL") for key in metrics["brief"])
    assert counts(metrics) == [2, 2, 1, 1]
    protocol = metrics["protocol"]
    assert (protocol["kind"], protocol["frames_from"], protocol["selected_on"]) == ("reference", "top window", None)
    assert metrics["system"] == dict.fromkeys(MODEL) | {"scorer": reference}
    if reference == "oracle":
        assert metrics["brief"]["MR-full-mAP"] == metrics["mIoU"] == metrics["coverage"] == 100
        assert metrics["selected_share"] == pytest.approx(100 * (4 / 12 + 5 / 7) / 2, abs=1e-4)


def test_random_windows_repeat_to_the_byte(workplace, evaluate):
    evaluate("random_windows", frames="frames")
    first = [Path(name).read_bytes() for name in ("metrics.json", "predictions/submission.jsonl")]
    evaluate("random_windows", frames="frames")
    assert [Path(name).read_bytes() for name in ("metrics.json", "predictions/submission.jsonl")] == first


@pytest.fixture(scope="module")
def submit(evaluate):
    def run(*rows):
        write_rows("other.jsonl", rows)
        return evaluate("other", submission="other.jsonl", frames="frames")

    return run


def test_a_submission_scores_as_the_selection_that_wrote_it(workplace, evaluate_selection, submit):
    ours, submission, queries = evaluate_selection(THRESHOLDS)
    theirs, _, rows = submit(*submission, {"qid": 3, "pred_relevant_windows": [], "pred_saliency_scores": []})
    same = ("brief", "HL-min-Fair", "full", "short", "mIoU", "coverage", "selected_share", "num_empty")
    assert [theirs[name] for name in same] == [ours[name] for name in same]
    assert theirs["frames"]["IoU"] < ours["frames"]["IoU"]  # those of the top window alone
    assert [row["predicted_windows"] for row in rows] == [row["predicted_windows"] for row in queries]
    protocol = theirs["protocol"]
    assert (protocol["kind"], protocol["missing_rows"], protocol["num_ignored_rows"]) == ("submission", [], 1)


def test_a_query_without_a_row_counts_as_an_empty_list(workplace, submit):
    metrics, submission, _ = submit({"qid": 2, "vid": "b", "pred_relevant_windows": [[4, 7, 1]]})
    assert metrics["protocol"]["missing_rows"] == [1]
    assert metrics["num_empty"] == 1
    assert metrics["brief"]["MR-full-R1@0.7"] == 50
    assert [row["qid"] for row in submission] == [2, 1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"qid": 4, "pred_relevant_windows": []}, "other.jsonl row 1: qid 4 is a query of the train split"),
        ({"qid": 8, "pred_relevant_windows": []}, "other.jsonl row 1: qid 8 is no query"),
        ({"qid": 1, "pred_relevant_windows": [[3, 1, 0]]}, "other.jsonl row 1: .*ends before"),
    ],
)
def test_a_row_that_fits_no_test_query_is_named(workplace, row, message, submit):
    with pytest.raises(InputError, match=message):
        submit(row)
    assert not Path("metrics.json").exists()


def test_a_missing_submission_names_the_file_to_put_there(workplace, evaluate):
    with pytest.raises(InputError, match=r"data/submissions/toy/other.jsonl: no such file; put the submission there"):
        evaluate("other", submission="data/submissions/toy/other.jsonl", frames="frames")


@pytest.mark.parametrize("given", [["thresholds", "shots", "embeddings"], ["shots", "frames"], ["embeddings"], []])
def test_options_that_name_no_source_of_windows_are_refused_with_those_that_do(workplace, evaluate, given):
    with pytest.raises(InputError, match="give one of: --thresholds --embeddings; .*; --frames$"):
        evaluate("vc1_none", **dict.fromkeys(given, "anywhere"))


def test_a_scorer_that_is_no_reference_is_refused(workplace, evaluate):
    with pytest.raises(InputError, match="'vc1_none' is no reference; name one of whole_video, "):
        evaluate("vc1_none", frames="frames")
    assert not Path("metrics.json").exists()


def test_a_dataset_without_moments_gives_empty_results(empty_workplace, evaluate, evaluate_selection):
    metrics, submission, queries = evaluate_selection(None)
    assert list(metrics) == ["protocol", "system"]
    assert counts(metrics) == [0, 0, 1, 0]
    assert submission == queries == read_rows("predictions/examples.jsonl") == []
    write_rows("shots/shots.jsonl", [])
    write_json("shots/detector.json", {})
    write_rows("other.jsonl", [])
    systems = {
        "content_shots": {"shots": "shots", "embeddings": "embeddings"},
        "oracle": {"frames": "frames"},
        "other": {"submission": "other.jsonl", "frames": "frames"},
    }
    for scorer, options in systems.items():
        metrics, submission, queries = evaluate(scorer, **options)
        assert list(metrics) == ["protocol", "system"], scorer
        assert submission == queries == []
        assert json.dumps(metrics)


def damage(path, old, new):
    content = path.read_text(encoding="utf-8")
    damaged = content[:new] if old is None else content.replace(old, new)
    assert damaged != content
    path.write_text(damaged, encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("thresholds/thresholds.json", '"least_cosine"', '"others"', "least_cosine is missing"),
        ("thresholds/thresholds.json", '"vc1"', '"vc2"', "parameters.change is missing, which vc2, none needs"),
        ("thresholds/thresholds.json", '"none"', '"log_smooth_norm"', "parameters.window is missing"),
        ("thresholds/thresholds.json", None, 30, "cut, or no JSON (EOF"),
        (
            "thresholds/thresholds.json",
            '"parameters": {',
            '"parameters": {"share": 1.5,',
            "parameters.share is 1.5: it is",
        ),
        (
            "thresholds/thresholds.json",
            '"parameters": {',
            '"parameters": {"share": 0,',
            "parameters.share is 0.0: it is",
        ),
        (
            "thresholds/thresholds.json",
            '"parameters": {',
            '"parameters": {"window": 4,',
            "parameters.window is 4: it is odd",
        ),
        ("embeddings/index.jsonl", '"duration": 12.0', '"duration": "12"', "row 1: duration is '12'"),
        ("embeddings/model.json", '"model"', '"name"', "system.model is missing"),
    ],
)
def test_a_damaged_selection_is_one_line(workplace, evaluate, file, old, new, message):
    write_json("thresholds/thresholds.json", THRESHOLDS)
    for name, rows in SEARCHED.items():
        write_rows(Path("thresholds", name), rows)
    damage(workplace / file, old, new)
    with pytest.raises(InputError) as caught:
        evaluate("vc1_none", thresholds="thresholds", embeddings="embeddings")
    assert message in str(caught.value)
    assert str(caught.value).startswith(file)
    assert str(caught.value).endswith("; make it anew with `dvc repro`")
    assert not Path("metrics.json").exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("shots/shots.jsonl", '"reason"', '"why"', "row 1: reason is missing"),
        ("shots/shots.jsonl", "[0.0, 4.0]", "[0.0]", "row 1: shots.0.1 is missing"),
        ("shots/shots.jsonl", None, -5, "row 2: cut, or no JSON (EOF"),
        ("shots/detector.json", None, 5, "cut, or no JSON (EOF"),
    ],
)
def test_damaged_shots_are_one_line(workplace, evaluate, file, old, new, message):
    shots = {"a": [[0.0, 4.0], [4.0, 12.0]], "b": [[0.0, 7.0]]}
    write_rows(
        "shots/shots.jsonl", [{"video_id": name, "shots": found, "reason": None} for name, found in shots.items()]
    )
    write_json("shots/detector.json", {"detector": "content"})
    damage(workplace / file, old, new)
    with pytest.raises(InputError) as caught:
        evaluate("content_shots", shots="shots", embeddings="embeddings")
    assert str(caught.value).startswith(file)
    assert message in str(caught.value)


def test_a_damaged_frames_store_is_one_line(workplace, evaluate):
    damage(workplace / "frames" / "frames.jsonl", '"timestamps": [', '"timestamps": ["x", ')
    with pytest.raises(InputError, match=r"frames.jsonl row 1: timestamps.0 is 'x': Input should be a valid number"):
        evaluate("whole_video", frames="frames")
