"""The front door: what its docstrings show, that it gives what the stages give, and what it says of mistakes."""

import contextlib
import doctest
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional

from stillmotion import api
from stillmotion.errors import InputError
from stillmotion.io.memo import folder_digest
from stillmotion.io.tables import write_json, write_rows
from stillmotion.video.decode import decode_frames
from stillmotion.video.probe import probe_video

EXAMPLES = [found for found in doctest.DocTestFinder().find(api, "stillmotion.api") if found.examples]
VIDEOS = ["pan.mp4", "ball.mp4"]
SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.setenv("STILLMOTION_DEVICE", "cpu")
    with contextlib.chdir(place):
        yield


@pytest.fixture(scope="module")
def model(place):
    return api.open_model(place / "clip")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_what_a_docstring_shows_is_what_happens(example):
    said = []
    doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL).run(example, out=said.append)
    assert not said, "".join(said)


def test_every_public_name_has_an_example_or_is_a_plain_record():
    shown = {example.name.removeprefix("stillmotion.api.").split(".")[0] for example in EXAMPLES}
    assert set(api.__all__) - shown == {"InputError", "Sampling"}


def test_a_video_is_the_mean_of_the_frames_at_the_middles_of_eight_parts(model):
    found = model.embed_videos(["pan.mp4"])
    probe = probe_video(Path("pan.mp4"))
    # 64 uniform frames of a 3 s video, and of those the middle ones of eight runs: 4, 12, …, 60
    times = (2 * np.array([4, 12, 20, 28, 36, 44, 52, 60]) + 1) * 3.0 / 128
    wanted = np.searchsorted(probe.timestamps, times + 1e-6, side="right") - 1
    unique, where = np.unique(wanted, return_inverse=True)
    frames = np.zeros((len(unique), 32, 32, 3), np.uint8)
    decode_frames(Path("pan.mp4"), probe, unique, 32, "crop", out=frames)
    alike, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{Path('clip').resolve()}")
    mean, std = (torch.tensor(preprocess.transforms[-1].__getattribute__(name)) for name in ("mean", "std"))
    pixels = (torch.from_numpy(frames[where]).float() / 255 - mean) / std
    with torch.no_grad():
        each = functional.normalize(alike.eval().encode_image(pixels.permute(0, 3, 1, 2)), dim=-1)
    expected = functional.normalize(each.mean(0), dim=-1)
    np.testing.assert_allclose(found.vectors[0], expected.numpy(), atol=1e-5)
    assert [row.duration for row in found.rows] == [3.0]


def test_texts_are_embedded_as_open_clip_does(model):
    alike = open_clip.create_model(f"local-dir:{Path('clip').resolve()}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{Path('clip').resolve()}")(["a red ball"])
    with torch.no_grad():
        expected = alike.encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(model.embed_texts(["a red ball"]), expected, atol=1e-6)


def test_ranking_is_by_the_dot_products(model):
    videos = model.embed_videos(VIDEOS)
    texts = ["a red ball", "a pan"]
    cosines = model.embed_texts(texts) @ videos.vectors.T
    ranking = model.rank(texts, videos, top=1)
    assert [len(row) for row in ranking] == [1, 1]
    assert [row[0] for row in ranking] == [(VIDEOS[i], float(c[i])) for c in cosines for i in [int(np.argmax(c))]]


def test_of_equal_videos_the_first_given_is_ranked_first(model):
    ids = [f"{number}.mp4" for number in range(53)]  # of which a matrix product gives some another last digit
    vector = np.random.default_rng(0).standard_normal(16).astype(np.float32)
    videos = api.Videos(ids, np.tile(vector, (53, 1)), np.zeros((0, 16), np.float32), [], {}, 2.0)
    for ranking in model.rank(["a red ball", "a pan", "rain", "a dog"], videos, top=53):
        assert [name for name, _ in ranking] == ids


def test_moments_are_selected_by_the_thresholds_of_a_file(model):
    videos = model.embed_videos(VIDEOS)
    rule = {"method": "vc1", "post_processing": "none", "least_cosine": 1e-6, "frozen_range": None}
    write_json("all.json", rule | {"parameters": {"threshold": -1.0}})
    found = model.find_moments("a red ball", videos, thresholds="all.json")
    # with a threshold below every cosine, a moment is a whole video
    assert {(moment.video_id, moment.start, moment.end) for moment in found} == {(name, 0.0, 3.0) for name in VIDEOS}
    (query,) = model.embed_texts(["a red ball"])
    own = videos.frames[videos.rows[0].offset + np.array(videos.rows[0].clips)] @ query
    expected = (own.mean() + videos.vectors[0] @ query) / 2
    assert next(m.score for m in found if m.video_id == "pan.mp4") == pytest.approx(float(expected), abs=1e-6)


def test_an_aggregator_makes_the_vector_of_a_video(place):
    trained = {"kind": "mean", "dim": 16, "clip_counts": [1, 4], "seeds": [], "selected_on": "nothing"}
    write_json("mean/aggregator.json", trained | {"model": folder_digest("clip")})
    fused = api.open_model("clip", aggregator="mean").embed_videos(VIDEOS)
    # one clip of 32 frames is the mean of the same frames as four of eight
    sampling = api.Sampling(clip_frames=32)
    assert fused.vectors.shape == (2, 16)
    whole = api.open_model("clip", sampling=sampling).embed_videos(VIDEOS)
    np.testing.assert_allclose((fused.vectors * whole.vectors).sum(1), 1, atol=1e-2)
    write_json("mean/aggregator.json", trained | {"model": "another"})
    with pytest.raises(InputError, match="mean: trained on the embeddings of another model than clip"):
        api.open_model("clip", aggregator="mean")


def test_scores_are_those_of_the_command(run_cli, tmp_path):
    scores = np.random.default_rng(0).normal(size=(6, 6))
    np.save(tmp_path / "S.npy", scores)
    run_cli("score", "retrieval", "--scores", tmp_path / "S.npy", "--output", tmp_path / "out.json")
    by_command = json.loads((tmp_path / "out.json").read_text())
    found = api.score_retrieval(scores)
    assert found["t2v"] == by_command["t2v"]
    assert found["v2t"] == by_command["v2t"]


@pytest.fixture
def run_cli():
    from stillmotion import cli

    def run(*arguments):
        assert cli.run([str(argument) for argument in arguments]) == 0

    return run


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (lambda model: model.embed_texts("a ball"), "write [text] for one"),
        (lambda model: model.embed_videos("pan.mp4"), "write [path] for one"),
        (lambda model: model.embed_videos(["notes.txt", "none.mp4"]), "none of 2 videos can be decoded (notes.txt: "),
        (lambda model: api.score_retrieval(np.zeros((2, 3))), "2 texts and 3 videos; give relevance"),
        (lambda model: api.open_model("clip", sampling=api.Sampling(num_clips=9)), "set that to 72 or more"),
        (lambda model: model.embed_texts(["a ball", float("nan")]), "text 2 is nan; give texts alone"),
        (lambda model: model.rank(["a ball"], model.embed_videos(["pan.mp4"]), top=-1), "top is -1; give 1 or more"),
        (lambda model: model.find_moments("a", model.embed_videos(["pan.mp4"]), top=0), "top is 0; give 1 or more"),
        (lambda model: api.open_model("clip", threads=0), "threads is 0; give 1 or more"),
        (
            lambda model: api.open_model("clip", sampling=api.Sampling(geometry="fit")),
            "geometry is 'fit': Input should",
        ),
        (lambda model: api.open_model("clip", sampling=api.Sampling(num_clips=0)), "num_clips is 0: Input should be"),
        (lambda model: api.open_model("clip", sampling=api.Sampling(clip_length_s=0)), "clip_length_s is 0: Input"),
        (lambda model: api.score_retrieval([[1, 2], [3]]), "scores: the rows are not of one length"),
        (lambda model: api.score_moments({"qid": 1}, []), "predictions row 1: qid is None; give it an integer"),
    ],
)
def test_a_mistake_is_told_with_its_mend(model, mistake, told):
    with pytest.raises(InputError) as caught:
        mistake(model)
    assert told in str(caught.value)


def test_a_program_of_ones_own_keeps_what_a_signal_does(model):
    # A shell starts what it puts into the background deaf to SIGINT.
    assert signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
def test_it_works_in_a_process_with_another_folder_and_says_when_numpy_came_first(place, tmp_path):
    script = (
        "from stillmotion.api import open_model\n"
        f"model = open_model({str(place / 'clip')!r})\n"
        f"print(model.rank(['a ball'], model.embed_videos([{str(place / 'pan.mp4')!r}])))\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MKL", "ATEN", "NPY", "OPENBLAS"))}
    env |= {"PYTHONPATH": str(SRC), "STILLMOTION_MEMO": str(tmp_path / "memo")}
    good = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    assert "pan.mp4" in good.stdout
    assert list(tmp_path.iterdir()) == []  # nothing is kept
    late = subprocess.run(
        [sys.executable, "-c", "import numpy\nimport stillmotion.api"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert "import stillmotion first, or set the environment variable STILLMOTION_INSTRUCTIONS" in late.stderr


def test_the_example_runs_on_what_a_run_has_built(place, tmp_path, monkeypatch, capsys):
    shutil.copytree(place / "clip", tmp_path / "models/backbones/small_clip")
    for number, name in enumerate(VIDEOS):
        folder = tmp_path / "data/raw/toy/videos"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(place / name, folder / f"test-{number}.mp4")
    captions = [{"video_id": f"test-{number}", "text": "a ball", "start": None} for number in range(2)]
    write_rows(tmp_path / "data/raw/toy/tables/captions.jsonl", captions)
    truth = {"qid": 1, "query": "a ball", "vid": "test-1", "duration": 3.0, "relevant_windows": [[0.0, 2.0]]}
    truth |= {"relevant_clip_ids": [0], "saliency_scores": [[4, 4, 4]]}
    write_rows(tmp_path / "data/raw/toy/tables/moments.jsonl", [truth])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(SRC.parent / "examples" / "from_python.py"))
    said = capsys.readouterr().out
    assert "2 videos of 16 numbers each, 0 skipped" in said
    assert "R@1 50.0" in said  # two texts that are the same find the same video
    assert "of 1 queries" in said


def test_frames_are_asked_for_before_moments_are_found(model):
    bare = api.Videos(["a"], np.zeros((1, 16), np.float32), np.zeros((0, 16), np.float32), [], {}, 2.0)
    with pytest.raises(InputError, match="embed them with frames=True"):
        model.find_moments("a ball", bare)


@pytest.mark.real
def test_real_videos_are_embedded_and_a_broken_one_is_told(model, real_material):
    folder = real_material / "videos"
    names = ["ask-anything__yoga.mp4", "decord__corrupted.mp4", "decord__video_90.mov"]
    videos = model.embed_videos([folder / name for name in names])
    assert [Path(path).name for path in videos.ids] == [names[0], names[2]]
    assert [Path(path).name for path in videos.skipped] == [names[1]]
    np.testing.assert_allclose(np.linalg.norm(videos.vectors, axis=1), 1, atol=1e-5)
    found = model.find_moments("a woman does yoga", videos, top=100)
    lasts = dict(zip(videos.ids, (row.duration for row in videos.rows), strict=True))
    assert all(0 <= moment.start < moment.end <= lasts[moment.video_id] for moment in found)
