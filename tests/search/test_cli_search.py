import json
import math
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from search_project import PARAMS, TEXT, at_cosines, build_project, write_embeddings

from stillmotion import cli
from stillmotion.embedding.embedder import Embedder
from stillmotion.embedding.writer import write_videos
from stillmotion.io.arrays import save_array
from stillmotion.io.memo import Memo, folder_digest
from stillmotion.io.records import Caption, Moment, Video, save_records
from stillmotion.io.tables import read_json, write_json
from stillmotion.video.packed import PackedFrames, write_tables
from stillmotion.video.packing import PackingTask, SamplingPlan, pack_video
from stillmotion.video.shards import join_parts, part_file

REAL_VIDEOS = ["ask-anything__yoga.mp4", "decord__flipping_a_pancake.mkv", "decord__video_90.mov"]

LEFT_OUT = " (1 left out: data/frames/toy/skipped.jsonl says why)"
"""The project's torn video."""


@pytest.fixture(scope="module")
def built(tmp_path_factory, clip):
    root = tmp_path_factory.mktemp("project")
    build_project(root, clip)
    return root


@pytest.fixture
def project(built, tmp_path):
    """A copy to change."""
    return Path(shutil.copytree(built, tmp_path / "project"))


@pytest.fixture
def search(capsys):
    """Run the command; give what it printed, or its one line of error."""

    def run(root, *arguments, status=0, notes=""):
        assert cli.run(["search", *map(str, arguments), "--root", str(root)]) == status
        captured = capsys.readouterr()
        if status:
            assert captured.out == ""
            assert captured.err.startswith("stillmotion: error: ")
            assert captured.err.count("\n") == 1
            return captured.err
        assert notes in captured.err if notes else captured.err == ""
        return captured.out

    return run


def test_json_lists_moments_best_first(built, search):
    # street's two clips above 0.6 are one window of mean 0.8, which ends with the video
    found = json.loads(search(built, TEXT, "--selection", "vc1_none", "--json"))
    assert [list(row) for row in found] == [["video_id", "start", "end", "score"]] * 3
    assert [(row["video_id"], row["start"], row["end"]) for row in found] == [
        ("street", 2.0, 5.5),
        ("yard", 0.0, 2.0),
        ("kitchen", 2.0, 4.0),
    ]
    assert [row["score"] for row in found] == pytest.approx([0.8, 0.5, 0.2], abs=2e-6)


def test_the_table_names_the_artefacts_and_the_files(built, search):
    lines = search(built, TEXT, "--selection", "vc1_none", "--top", "2").splitlines()
    assert lines[0] == f"small_clip and vc1_none on toy, 3 videos{LEFT_OUT}"
    assert [line.split() for line in lines[2:]] == [
        ["1", "0.800", "2.0s", "5.5s", "street", str(built / "data/raw/toy/street.mp4")],
        ["2", "0.500", "0.0s", "2.0s", "yard", str(built / "data/raw/toy/yard.mp4")],
    ]


def test_one_video_can_be_searched(built, search):
    found = json.loads(search(built, TEXT, "--video", "yard", "--json"))
    assert [row["video_id"] for row in found] == ["yard"]


def test_an_image_of_a_stored_frame_finds_what_its_embedding_finds(project, search, clip, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "query.png")
    with torch.no_grad():
        image = clip.image_transform(Image.fromarray(pixels))[None]
        unit_D = clip.model.encode_image(image, normalize=True)[0].double().numpy()
    digest = folder_digest(project / "models" / "backbones" / "small_clip")
    write_embeddings(project / "data" / "embeddings" / "toy-small_clip", unit_D, digest)
    found = json.loads(search(project, "--image", tmp_path / "query.png", "--selection", "vc1_none", "--json"))
    # By the best frame of a window: street's has 0.9 and 0.7.
    assert [row["score"] for row in found] == pytest.approx([0.9, 0.5, 0.2], abs=1e-4)


def with_wholes(root, clip, cosines, *, train_captions=(), recall=50.0):
    """A project with a measured system of retrieval, whose videos have these cosines with the text."""
    embeddings = root / "data" / "embeddings" / "toy-small_clip"
    with torch.no_grad():
        unit_D = clip.model.encode_text(clip.tokenizer([TEXT]), normalize=True)[0].double().numpy()
    save_array(embeddings / "clips.npy", at_cosines(unit_D, cosines).astype(np.float32)[:, None])
    model = read_json(embeddings / "model.json")
    write_json(embeddings / "model.json", model | {"clip_counts": [1]})
    trained = {"kind": "mean", "dim": 16, "clip_counts": [1], "seeds": [], "selected_on": "nothing"}
    trained_on = {"model": model["model"]}
    write_json(root / "models" / "aggregators" / "small_clip-mean" / "aggregator.json", trained | trained_on)
    write_json(root / "metrics" / "retrieval" / "small_clip-mean.json", {"t2v": {"R@1": recall}})
    tables = root / "data" / "raw" / "toy" / "tables"
    save_records(tables, Moment, [])
    save_records(
        tables, Caption, [Caption(f"c{row}", name, name, None, None) for row, name in enumerate(("street", "yard"))]
    )
    save_array(embeddings / "captions.npy", at_cosines(unit_D, [0.3, 0.3]).astype(np.float32))
    save_array(embeddings / "queries.npy", np.empty((0, 16), dtype=np.float32))


def test_a_text_ranks_by_the_mean_of_window_and_whole_video(project, search, clip):
    # kitchen, street, yard; their windows have 0.2, 0.8 and 0.5.
    with_wholes(project, clip, [0.9, -0.2, 0.7])
    lines = search(project, TEXT, "--selection", "vc1_none").splitlines()
    assert lines[0] == f"small_clip and vc1_none for moments, small_clip-mean for videos, on toy, 3 videos{LEFT_OUT}"
    found = json.loads(search(project, TEXT, "--selection", "vc1_none", "--json"))
    assert [row["video_id"] for row in found] == ["yard", "kitchen", "street"]
    assert [row["score"] for row in found] == pytest.approx([0.6, 0.55, 0.3], abs=2e-6)


def test_a_recall_that_is_no_number_is_one_line(project, search, clip):
    with_wholes(project, clip, [0.9, -0.2, 0.7], recall="high")
    line = search(project, TEXT, "--selection", "vc1_none", status=2)
    assert "metrics/retrieval/small_clip-mean.json: t2v.R@1 is 'high': Input should be a valid number" in line


def test_how_often_a_right_video_is_first_is_measured_on_the_test_texts(project, search, clip):
    # Both captions have 0.3 with the text's vector, in one direction: a whole video of cosine 1 with the text comes
    # first for both, and is right for one.
    with_wholes(project, clip, [-1.0, 1.0, -1.0])
    found = json.loads(search(project, "--evaluate", "--selection", "vc1_none", "--json"))
    assert found == {
        "captions of videos": {"texts": 2, "found_first": 50.0},
        "queries for moments": {"texts": 0, "found_first": None},
        "retrieval": {"system": "small_clip-mean", "t2v R@1": 50.0},
    }
    assert " 50.0 %  of 2 captions of videos of the test split find a right video first" in search(
        project, "--evaluate", "--selection", "vc1_none"
    )


@pytest.mark.parametrize(("kind", "file"), [(Caption, "captions"), (Moment, "moments")])
def test_texts_of_another_version_of_the_dataset_are_one_line(project, search, clip, kind, file):
    with_wholes(project, clip, [0.9, -0.2, 0.7])
    tables = project / "data" / "raw" / "toy" / "tables"
    row = {"c": Caption("c0", "street", "a", None, None), "m": Moment(0, "a", "street", 5.5, [[0, 2]], [0], [])}[
        file[0]
    ]
    save_records(tables, kind, [row])
    line = search(project, "--evaluate", "--selection", "vc1_none", status=2)
    assert f"{tables / file}.jsonl 1; these embeddings are of another dataset: run the embed stage again" in line


def test_what_fits_less_than_the_texts_of_the_train_split_is_doubted(project, search, clip):
    with_wholes(project, clip, [0.2, 0.3, 0.25])
    path = project / "data" / "raw" / "toy" / "tables" / "videos.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"test"', '"train"'), encoding="utf-8")
    index = project / "data" / "embeddings" / "toy-small_clip" / "index.jsonl"
    index.write_text(index.read_text(encoding="utf-8").replace('"test"', '"train"'), encoding="utf-8")
    # The captions find a video of cosine 0.3 × 0.3 + (1 - 0.3²) = 1: both vectors lie in one plane.
    note = "the nearest video has a cosine of 0.30, where 95% of the train split's texts find 1.00 or more"
    search(project, TEXT, "--selection", "vc1_none", notes=note)
    with_wholes(project, clip, [0.2, 1.0, 0.25])
    search(project, TEXT, "--selection", "vc1_none")


def test_moments_like_a_span_of_a_video_are_those_of_the_others(built, search, clip):
    # The span is street's second clip, of cosine 0.9 with the text; all vectors lie in one plane, so the cosine with
    # a frame at c is 0.9 c + sqrt(1 - 0.81) sqrt(1 - c²): 0.827 for the yard's first clip, c = 0.5.
    found = json.loads(
        search(built, "--like", "street", "--start", 2, "--end", 4, "--selection", "vc1_none", "--top", 1, "--json")
    )
    assert [(row["video_id"], row["start"], row["end"]) for row in found] == [("yard", 0.0, 2.0)]
    assert found[0]["score"] == pytest.approx(0.9 * 0.5 + 0.19**0.5 * 0.75**0.5, abs=1e-5)
    everything = json.loads(search(built, "--like", "street", "--selection", "vc1_none", "--json"))
    assert "street" not in {row["video_id"] for row in everything}


def test_a_span_without_end_is_to_the_end_of_the_video(built, search):
    found = [search(built, "--like", "street", *end, "--json") for end in ((), ("--end", "inf"), ("--end", "1e300"))]
    assert found[0] == found[1] == found[2]


def test_the_frames_of_each_moment_are_written(built, search, tmp_path):
    out = tmp_path / "out"
    search(built, TEXT, "--selection", "vc1_none", "--top", 2, "--frames", out, "--json", notes="out: 3 frames")
    assert sorted(path.name for path in out.iterdir()) == [
        "01_street_00003.00s.png",
        "01_street_00005.00s.png",
        "02_yard_00001.00s.png",
    ]
    assert np.asarray(Image.open(out / "02_yard_00001.00s.png")).min() == 100


@pytest.mark.real
def test_moments_of_real_videos_have_frames_and_times_that_exist(project, search, clip, real_material, tmp_path):
    store = tmp_path / "store"
    plan = SamplingPlan(
        size_px=32, geometry="crop", num_uniform=8, clip_length_s=2.0, clip_position="middle", format="raw"
    )
    records, packed = [], {}
    for path in (real_material / "videos" / name for name in REAL_VIDEOS):
        records.append(Video(path.name, str(path), "test", *[None] * 6, status="ok"))
        packed[path.name] = pack_video(
            PackingTask(path.name, path, store / part_file(path.name), plan, Memo(None), code="")
        )
    join_parts(store, packed)
    write_tables(store, records, packed, {})
    shutil.rmtree(project / "data" / "frames" / "toy")
    shutil.copytree(store, project / "data" / "frames" / "toy")
    folder = project / "data" / "embeddings" / "toy-small_clip"
    embedder = Embedder(clip, Memo(None), {}, "fp32")
    packed_frames = PackedFrames(store)
    write_videos(
        folder, embedder, packed_frames, packed_frames.videos, [], clip_counts=[1], clip_frames=4, span_views=1
    )
    found = json.loads(
        search(project, TEXT, "--top", 50, "--frames", tmp_path / "out", "--json", notes=f"{tmp_path / 'out'}: ")
    )
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert {row["video_id"] for row in found} == set(REAL_VIDEOS)
    for rank, row in enumerate(found, start=1):
        with av.open(real_material / "videos" / row["video_id"]) as container:
            seconds = container.duration / av.time_base
        assert 0 <= row["start"] < row["end"] <= seconds + 0.1
        times = [float(name.split("_")[-1].removesuffix("s.png")) for name in files if name.startswith(f"{rank:02d}_")]
        assert len(times) == math.ceil((row["end"] - row["start"]) / 2 - 1e-6)
        assert all(row["start"] <= time < row["end"] for time in times)


def measure(root, system, recall):
    write_json(root / "metrics" / "moments" / f"{system}.json", {"brief": {"MR-full-R1@0.5": recall}})


def test_the_best_measured_selection_and_model_are_taken(project, search):
    measure(project, "small_clip-vc1_none", 40.0)
    measure(project, "small_clip-vc1_log_smooth_norm", 60.0)
    # better, but its embeddings are not here: metrics come with git
    measure(project, "small_clip-patch_dropout-vc1_none", 90.0)
    tuned = project / "models" / "thresholds"
    shutil.copytree(tuned / "small_clip-vc1_none", tuned / "small_clip-patch_dropout-vc1_none")
    assert search(project, TEXT).startswith("small_clip and vc1_log_smooth_norm on toy")
    backbones = project / "models" / "backbones"
    shutil.copytree(backbones / "small_clip", backbones / "small_clip-patch_dropout")
    embeddings = project / "data" / "embeddings"
    tuned_embeddings = embeddings / "toy-small_clip-patch_dropout"
    shutil.copytree(embeddings / "toy-small_clip", tuned_embeddings)
    described = read_json(tuned_embeddings / "model.json") | {"system": {"model": "small_clip-patch_dropout"}}
    write_json(tuned_embeddings / "model.json", described)
    assert search(project, TEXT).startswith("small_clip-patch_dropout and vc1_none on toy")
    assert search(project, TEXT, "--model", "small_clip").startswith("small_clip and vc1_log_smooth_norm")


def test_metrics_whose_ranges_have_no_queries_are_read(project, search):
    path = project / "metrics" / "moments" / "small_clip-vc1_log_smooth_norm.json"
    write_json(path, {"brief": {"MR-full-R1@0.5": 60.0, "MR-long-mAP": None}})
    assert search(project, TEXT).startswith("small_clip and vc1_log_smooth_norm on toy")


def test_without_metrics_the_first_of_params_is_taken(built, search):
    assert search(built, TEXT).startswith("small_clip and vc1_none on toy")


def test_a_dataset_without_labelled_moments_is_searched_with_a_note(project, search):
    path = project / "models" / "thresholds" / "small_clip-vc1_none" / "thresholds.json"
    write_json(path, None)
    note = f"{path}: nothing to tune on, so windows are selected by vc1, norm, threshold 0.75\n"
    found = json.loads(search(project, TEXT, "--selection", "vc1_none", "--json", notes=note))
    # norm of street is [0, 1, 5/7]
    assert (found[0]["video_id"], found[0]["start"], found[0]["end"]) == ("street", 2.0, 4.0)


def test_a_dataset_that_was_added_to_since_it_was_embedded_is_searched_with_a_note(project, search):
    data = project / "data"
    for kind, name in (("sources", "toy"), ("raw", "toy"), ("frames", "toy"), ("embeddings", "toy-small_clip")):
        shutil.copytree(data / kind / name, data / kind / name.replace("toy", "holiday"))
    asked = [TEXT, "--dataset", "holiday", "--selection", "vc1_none", "--json"]
    found = search(project, *asked)  # who made it is not known
    write_json(project / ".dvc" / "tmp" / "stillmotion-index" / "holiday-small_clip.json", "another version")
    note = "holiday-small_clip: made before holiday was last added; remove it to have it made anew\n"
    assert search(project, *asked, notes=note) == found


def test_a_video_that_is_the_same_throughout_is_one_moment(project, search, clip):
    write_json(project / "models" / "thresholds" / "small_clip-vc1_none" / "thresholds.json", None)
    with torch.no_grad():
        unit_D = clip.model.encode_text(clip.tokenizer([TEXT]), normalize=True)[0].double().numpy()
    digest = folder_digest(project / "models" / "backbones" / "small_clip")
    folder = project / "data" / "embeddings" / "toy-small_clip"
    write_embeddings(folder, unit_D, digest, {"kitchen": [0.4, 0.4, 0.4], "street": [0.1, 0.3, 0.1]})
    arguments = [TEXT, "--selection", "vc1_none", "--json"]
    found = json.loads(search(project, *arguments, notes="nothing to tune on"))
    assert [tuple(row.values())[:3] for row in found] == [("kitchen", 0.0, 5.5), ("street", 2.0, 4.0)]


def test_a_text_longer_than_the_context_is_noted(built, search):
    search(built, "ball " * 40, notes="the text is longer than the model reads; its end is left out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of a text, --image FILE, --like VIDEO and --evaluate"),
        ([TEXT, "--image", "x.png"], "give one of a text, --image FILE, --like VIDEO and --evaluate"),
        ([TEXT, "--start", "1"], "--start and --end are of the span of --like VIDEO"),
        (["--like", "stret"], "--like stret: toy has no such video; did you mean street?"),
        (
            ["--like", "street", "--start", "4", "--end", "2"],
            "--start 4, --end 2: no span of street, which lasts 5.5 s",
        ),
        (["--like", "street", "--start", "6"], "--start 6, --end 5.5: no span of street, which lasts 5.5 s"),
        (["  "], "the text is empty"),
        (["--image", "absent.png"], "absent.png: no such file"),
        ([TEXT, "--top", "0"], "--top"),
        ([TEXT, "--video", "stret"], "--video stret: toy has no such video; did you mean street?"),
        ([TEXT, "--video", "torn"], "--video torn: has no frames: no frame can be decoded"),
        ([TEXT, "--video", "attic"], "--video attic: not embedded; add its split, validation, to embed.splits"),
        ([TEXT, "--dataset", "toi"], "--dataset toi: no such dataset; did you mean toy?"),
        ([TEXT, "--model", "smal_clip"], "--model smal_clip: no such model; did you mean small_clip?"),
        ([TEXT, "--selection", "vc1_non"], "--selection vc1_non: no such selection; did you mean vc1_none?"),
        (
            [TEXT, "--model", "small_clip-patch_dropout"],
            "toy-small_clip-patch_dropout: not built; build it with `dvc rep",
        ),
        (
            [TEXT, "--selection", "vc2_none"],
            "small_clip-vc2_none/thresholds.json: not built; add it to run.selected or run.selections in params.yaml, "
            "then build it with `dvc repro`, or fetch what a colleague built with `dvc pull`",
        ),
    ],
)
def test_what_cannot_be_searched_is_one_line_with_the_mend(built, search, arguments, message):
    assert message in search(built, *arguments, status=2)


def test_an_unbuilt_project_says_which_command_builds_it(tmp_path, search):
    assert "params.yaml: no such file" in search(tmp_path, TEXT, status=2)
    shutil.copyfile(PARAMS, tmp_path / "params.yaml")
    assert "toy is not built; build it with `dvc repro`" in search(tmp_path, TEXT, status=2)
    (tmp_path / "data" / "sources" / "holiday").mkdir(parents=True)
    assert "this is no git repository" in search(tmp_path, TEXT, "--dataset", "holiday", status=2)


def test_parts_that_are_missing_or_damaged_are_named(project, search):
    text = [TEXT, "--selection", "vc1_none"]
    shutil.rmtree(project / "data" / "frames")
    assert "frames.jsonl: not built; build it with `dvc repro`" in search(project, *text, "--frames", "f", status=2)
    write_json(project / "models" / "backbones" / "small_clip" / "source.json", {"changed": True})
    assert "toy-small_clip: made by another model than" in search(project, *text, status=2)
    shutil.rmtree(project / "models" / "backbones")
    assert "no model there; run `dvc repro`" in search(project, *text, status=2)
    shutil.rmtree(project / "data" / "raw")
    assert "videos.jsonl: not built; build it with `dvc repro`" in search(project, *text, status=2)


def test_frames_that_could_not_be_written_are_told_before_anything_is_read(tmp_path, search):
    (tmp_path / "file").touch()
    error = search(tmp_path, TEXT, "--frames", tmp_path / "file" / "found", status=2)
    assert "file/found: a folder on the way there is a file; move it, or name another path" in error


def test_frames_do_not_go_among_other_files(built, search):
    assert "is there and not an empty folder" in search(built, TEXT, "--frames", built, status=2)


THRESHOLDS = "models/thresholds/small_clip-vc1_none/thresholds.json"
EMBEDDED = "data/embeddings/toy-small_clip"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (THRESHOLDS, '"parameters"', '"others"', "parameters is missing"),
        (THRESHOLDS, '"threshold"', '"others"', "parameters.threshold is missing, which vc1, none needs"),
        (THRESHOLDS, "0.6", '"0.6"', "parameters.threshold is '0.6': Input should be a valid number"),
        (THRESHOLDS, "0.6", "1e999", "parameters.threshold is inf: Input should be a finite number"),
        (THRESHOLDS, '"vc1"', '"vc3"', "method is 'vc3': Input should be 'vc1', 'vc1_beta' or 'vc2'"),
        (THRESHOLDS, '"none"', '"adjust_norm"', "frozen_range is null, which adjust_norm needs"),
        (THRESHOLDS, None, 60, "cut, or no JSON (EOF"),
        (THRESHOLDS, None, 0, "cut, or no JSON (EOF"),
        (f"{EMBEDDED}/model.json", '"system"', '"others"', "system is missing"),
        (f"{EMBEDDED}/model.json", '"model": "', '"model": 3, "x": "', "model is 3: Input should be a valid string"),
        (f"{EMBEDDED}/model.json", None, 40, "cut, or no JSON (EOF"),
        (f"{EMBEDDED}/index.jsonl", '"offset"', '"others"', "row 1: offset is missing"),
        (f"{EMBEDDED}/index.jsonl", '"clips": [1,', '"clips": ["1",', "row 1: clips.0 is '1'"),
        (f"{EMBEDDED}/index.jsonl", None, -20, "row 3: cut, or no JSON (EOF"),
        (
            f"{EMBEDDED}/index.jsonl",
            '"offset": 6',
            '"offset": 7',
            "row 2: its frames begin elsewhere than the row before",
        ),
        (f"{EMBEDDED}/index.jsonl", "[1, 3, 5]", "[1, 3, 6]", "row 1: its frames begin elsewhere than"),
        (f"{EMBEDDED}/model.json", '"system": {', '"system": null, "x": {', "system is None"),
        ("data/frames/toy/frames.jsonl", '"clips"', '"others"', "row 1: clips is missing"),
        ("data/frames/toy/frames.jsonl", None, -20, "row 3: cut, or no JSON (EOF"),
        ("metrics/moments/small_clip-vc1_none.json", "50.0", '"high"', "brief.MR-full-R1@0.5 is 'high'"),
    ],
)
def test_a_file_that_is_read_by_key_and_damaged_is_one_line_with_the_mend(project, search, file, old, new, message):
    path = project / file
    if path.parent.name == "moments":
        write_json(path, {"brief": {"MR-full-R1@0.5": 50.0}})
    content = path.read_text(encoding="utf-8")
    damaged = content[:new] if old is None else content.replace(old, new)
    assert damaged != content
    path.write_text(damaged, encoding="utf-8")
    line = search(project, TEXT, "--selection", "vc1_none", "--frames", project / "found", status=2)
    assert line.startswith(f"stillmotion: error: {path}")
    assert message in line
    assert line.endswith("; make it anew with `dvc repro`\n")


def test_a_table_that_is_cut_between_two_rows_is_one_line(project, search):
    path = project / EMBEDDED / "index.jsonl"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:2]), encoding="utf-8")
    line = search(project, TEXT, "--selection", "vc1_none", status=2)
    assert "frames.npy: 18 rows, but index.jsonl beside it tells of 12; make it anew" in line


def test_a_video_that_was_skipped_by_a_damaged_table_is_one_line(project, search):
    path = project / "data" / "frames" / "toy" / "skipped.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"reason"', '"why"'), encoding="utf-8")
    line = search(project, TEXT, "--selection", "vc1_none", "--video", "torn", status=2)
    assert f"{path} row 1: reason is missing; make it anew with `dvc repro`" in line


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            np.zeros((18, 8), np.float32),
            "float32 of shape (18, 8), but model.json beside it tells of float32 vectors of 16",
        ),
        (np.zeros((18, 16), np.int64), "int64 of shape (18, 16), but model.json"),
        (np.zeros((0, 16), np.float32), "0 rows, but index.jsonl beside it tells of 18"),
        (np.full((18, 16), np.nan, np.float32), "an embedding is not finite"),
    ],
)
def test_a_table_of_another_kind_is_one_line(project, search, table, message):
    save_array(project / EMBEDDED / "frames.npy", table)
    assert message in search(project, TEXT, "--selection", "vc1_none", status=2)


def test_embeddings_of_no_video_are_one_line(project, search):
    (project / EMBEDDED / "index.jsonl").write_text("")
    line = search(project, TEXT, "--selection", "vc1_none", status=2)
    assert "index.jsonl: no videos; build it with `dvc repro`" in line
