"""The stage as a command, on embeddings made by hand."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml
from typer.testing import CliRunner

from stillmotion.cli import app
from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption, Video, save_records
from stillmotion.io.tables import write_json, write_rows

ROOT = Path(__file__).resolve().parents[1]
DIM, FRAMES, TOKENS = 6, 3, 4
TEST = [f"v{number}" for number in range(8)]
CAPTIONS = sorted(
    [Caption(f"{name}#0", name, f"about {name}", None, None) for name in [*TEST, "lost", "train"]]
    + [Caption(f"{name}#1", name, "a part", 0.0, 1.0) for name in TEST]
    + [Caption(f"{name}#2", name, f"again about {name}", None, None) for name in TEST[:2]],
    key=lambda caption: caption.caption_id,
)


def unit(*shape, seed):
    found = np.random.default_rng(seed).standard_normal((*shape, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Videos of the test split in the rows after one of train, and one that could not be decoded."""
    root = tmp_path_factory.mktemp("project")
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["alignments"] = {
        name: {"interaction": interaction, "tau": 10.0, "top_k": 1, "dual_softmax": trick}
        for name, interaction, trick in (("mug", "mutual", False), ("dual", "mutual", True))
    }
    params["run"] |= {"aligned": [], "alignments": []}
    params["evaluate_retrieval"] |= {"bootstrap_samples": 10}
    with (root / "params.yaml").open("w", encoding="utf-8") as out:
        yaml.dump(params, out)
    splits = {"train": "train", "lost": "test"} | dict.fromkeys(TEST, "test")
    videos = [
        Video(name, f"{name}.mp4", split, None, None, None, None, None, None, "ok") for name, split in splits.items()
    ]
    save_records(root / "raw", Video, videos)
    save_records(root / "raw", Caption, CAPTIONS)
    decoded = ["train", *TEST]
    rows = [EmbeddedVideo(name, splits[name], 4.0, 0, 1, [0], [0]).row() for name in decoded]
    write_rows(root / "embedded" / "index.jsonl", rows)
    described = {"logit_scale": 14.0, "clip_counts": [2], "clip_frames": FRAMES, "truncated": {"captions": 3}}
    write_json(root / "embedded" / "model.json", described)
    save_array(root / "embedded" / "clips.npy", unit(len(decoded), 2, seed=0))
    save_array(root / "embedded" / "clip_frames.npy", unit(len(decoded), FRAMES, seed=1))
    save_array(root / "embedded" / "captions.npy", unit(len(CAPTIONS), seed=2))
    save_array(root / "embedded" / "caption_tokens.npy", unit(TOKENS * len(CAPTIONS), seed=3))
    save_array(root / "embedded" / "caption_token_offsets.npy", TOKENS * np.arange(len(CAPTIONS) + 1))
    return root


def evaluate(project, alignment, *, raw="raw", embeddings="embedded", system=""):
    options = {"alignment": alignment, "raw": raw, "embeddings": embeddings}
    system = system or alignment
    options |= {"metrics": f"metrics/{system}.json", "predictions": f"data/predictions/retrieval/{system}"}
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / "src" / "evaluate_alignment.py"),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ],
        cwd=project,
        env=os.environ | {"STILLMOTION_MEMO": "off", "STILLMOTION_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def softmax(values):
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def mug(tokens, frames, tau):
    """METHODS.md section 6, a number at a time."""
    cosines = [[float(np.dot(t.astype(float), f.astype(float))) for f in frames] for t in tokens]
    columns = [list(column) for column in zip(*cosines, strict=True)]
    own = [[sum(w * s for w, s in zip(softmax([tau * s for s in row]), row, strict=True)) for row in rows]
           for rows in (cosines, columns)]  # fmt: skip
    a, b = (softmax([tau * s for s in scores]) for scores in own)
    return sum(a[i] * cosines[i][j] * b[j] for i in range(len(a)) for j in range(len(b)))


@pytest.fixture(scope="module")
def expected(project):
    """Scores (texts, videos) of the whole captions of decoded test videos, and each text's video."""
    frames = np.load(project / "embedded" / "clip_frames.npy")[1:]
    tokens = np.load(project / "embedded" / "caption_tokens.npy").reshape(len(CAPTIONS), TOKENS, DIM)
    rows = [row for row, caption in enumerate(CAPTIONS) if caption.start is None and caption.video_id in TEST]
    scores = np.array([[mug(tokens[row], video, 10.0) for video in frames] for row in rows])
    return scores, np.array([TEST.index(CAPTIONS[row].video_id) for row in rows]), [CAPTIONS[row] for row in rows]


def rank(scores_Q, right):
    return 1 + sum(score > max(scores_Q[right]) for score in np.delete(scores_Q, right))


def read(project, system):
    metrics = json.loads((project / "metrics" / f"{system}.json").read_text())
    path = project / "data" / "predictions" / "retrieval" / system / "ranks.jsonl"
    return metrics, [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def evaluated(project):
    """The project with the results of both alignments."""
    for alignment in ("mug", "dual"):
        done = evaluate(project, alignment)
        assert done.returncode == 0, done.stderr
    return project


@pytest.mark.parametrize("alignment", ["mug", "dual"])
def test_the_stage_ranks_in_both_directions_by_the_formula(evaluated, expected, alignment):
    scores, video_of, captions = expected
    t2v = v2t = scores
    if alignment == "dual":
        t2v = scores * np.exp(10 * scores) / np.exp(10 * scores).sum(axis=0)
        v2t = scores * np.exp(10 * scores) / np.exp(10 * scores).sum(axis=1, keepdims=True)
    metrics, rows = read(evaluated, alignment)
    of_texts = [rank(t2v[text], [video]) for text, video in enumerate(video_of)]
    of_videos = [rank(v2t[:, video], np.flatnonzero(video_of == video)) for video in range(len(TEST))]
    assert [row["rank"] for row in rows] == [[found] for found in of_texts]
    assert [row["rank_by_num_clips"] for row in rows] == [{"1": [found]} for found in of_texts]
    assert [row["caption_id"] for row in rows] == [caption.caption_id for caption in captions]
    for row, text in zip(rows, t2v, strict=True):
        others = [TEST[video] for video in np.argsort(-text) if TEST[video] != row["video_id"]]
        assert row["hardest_negatives"] == others[:5]
    assert metrics["t2v"]["MeanR"] == pytest.approx(np.mean(of_texts))
    assert metrics["t2v"]["R@1"] == pytest.approx(100 * np.mean(np.array(of_texts) <= 1), abs=1e-4)
    assert metrics["v2t"]["MeanR"] == pytest.approx(np.mean(of_videos))
    frames = np.load(evaluated / "embedded" / "clip_frames.npy")[1:].astype(float)
    pairs = [video[first] @ video[second] for video in frames for first, second in ((0, 1), (0, 2), (1, 2))]
    assert metrics["mean_frame_cosine"] == pytest.approx(np.mean(pairs), abs=1e-4)
    assert metrics["by_num_clips"] == {"1": {name: metrics[name] for name in metrics["by_num_clips"]["1"]}}


def test_the_protocol_says_what_was_done_and_what_is_missing(evaluated):
    for alignment, trick in (("mug", "none"), ("dual", "dual softmax over all test queries of each direction, ")):
        protocol = read(evaluated, alignment)[0]["protocol"]
        assert protocol["inference_tricks"].startswith(trick)
        assert (protocol["num_queries"], protocol["gallery_size"], protocol["missing_queries"]) == (10, 8, 1)
        assert (protocol["num_clips"], protocol["clip_frames"], protocol["truncated_captions"]) == (1, FRAMES, 3)
        assert protocol["alignment"] == {
            "interaction": "mutual",
            "tau": 10.0,
            "top_k": 1,
            "dual_softmax": alignment == "dual",
        }


def test_compare_takes_the_results_as_those_of_any_system(evaluated):
    compared = CliRunner().invoke(app, ["compare", "mug", "dual", "--root", str(evaluated), "--json"])
    assert json.loads(compared.stdout)["num_queries"] == 10


def test_a_test_split_without_captions_is_an_empty_result(project, tmp_path):
    save_records(tmp_path, Video, [Video("train", "t.mp4", "train", None, None, None, None, None, None, "ok")])
    save_records(tmp_path, Caption, [])
    folder = tmp_path / "embedded"
    described = {"logit_scale": 1.0, "clip_counts": [1], "clip_frames": 1, "truncated": {}}
    write_json(folder / "model.json", described)
    write_rows(folder / "index.jsonl", [EmbeddedVideo("train", "train", 4.0, 0, 1, [0], [0]).row()])
    save_array(folder / "clips.npy", unit(1, 1, seed=0))
    save_array(folder / "captions.npy", np.zeros((0, DIM), np.float32))
    done = evaluate(project, "mug", raw=str(tmp_path), embeddings=str(folder), system="empty")
    assert done.returncode == 0, done.stderr
    metrics, rows = read(project, "empty")
    assert (metrics["t2v"], metrics["by_num_clips"], rows) == ({}, {}, [])


def test_an_alignment_that_params_do_not_name_is_one_line(project):
    done = evaluate(project, "muk")
    assert done.returncode == 2
    assert done.stderr == "evaluate_alignment: error: params.yaml: alignments has no 'muk'; did you mean 'mug'?\n"
