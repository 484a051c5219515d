"""The stage on two test spans, another of a video that is lost, and probes whose weights are written by hand."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Action, Video, save_records
from stillmotion.io.tables import read_json, read_rows, write_json, write_rows

ROOT = Path(__file__).resolve().parents[1]
MODEL = {"model": "tuned", "base": "small", "expansion": None, "pretraining": None, "recipe": "all", "seed": 1}
SPLITS = {"a": "train", "b": "test", "lost": "test"}
ACTIONS = [
    Action("a", "grows", 0.0, 2.0),
    Action("b", "spins", 0.0, 2.0),
    Action("b", "spins", 2.0, 4.0),
    Action("lost", "spins", 0.0, 2.0),
]
PROBES = [
    {"shots": 1, "seed": seed, "num_samples": 2, "c": 1.0, "validation_top1": validation}
    for seed, validation in ((0, 50.0), (1, None))
]
# as zero-shot, and always `spins`
WEIGHTS = [[[1, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 1]]]


def save_dataset(root: Path, actions: list[Action]) -> None:
    probed = (6.0, 30.0, 180, 64, 64, "h264", "ok")
    save_records(root / "raw", Video, [Video(name, f"{name}.mp4", split, *probed) for name, split in SPLITS.items()])
    save_records(root / "raw", Action, actions)
    embedded = root / "embeddings"
    known = [action for action in actions if action.video_id != "lost"]
    videos = [EmbeddedVideo(name, SPLITS[name], 6.0, 0, 1, [0], [0]) for name in ("a", "b")]
    write_rows(embedded / "index.jsonl", [video.row() for video in videos])
    write_json(embedded / "model.json", {"dim": 2, "span_views": 1, "system": MODEL})
    classes = ["grows", "spins"] if actions else []
    write_json(embedded / "classes.json", classes)
    save_array(embedded / "classes.npy", np.eye(2, dtype=np.float32)[: len(classes)])
    save_records(embedded, Action, known)
    spans = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], np.float32)
    save_array(embedded / "actions.npy", spans[: len(known)])
    write_rows(root / "probes" / "probes.jsonl", PROBES if actions else [])
    save_array(root / "probes" / "weights.npy", np.array(WEIGHTS, float) if actions else np.zeros((0, 0, 3)))


@pytest.fixture
def evaluate(main_of, tmp_path, monkeypatch):
    """Metrics, rows of the spans and the curve that the stage writes for a dataset with these actions."""
    main = main_of("evaluate_actions")

    def run(actions):
        shutil.copy(ROOT / "params.yaml", tmp_path)
        save_dataset(tmp_path, actions)
        monkeypatch.chdir(tmp_path)
        inputs = {name: Path(name) for name in ("probes", "raw", "embeddings")}
        main(**inputs, metrics=Path("metrics.json"), predictions=Path("predictions"), plot=Path("curve.json"))
        return read_json("metrics.json"), read_rows("predictions/spans.jsonl"), read_json("curve.json")

    return run


def test_spans_are_named_zero_shot_and_by_each_probe(evaluate):
    metrics, spans, curve = evaluate(ACTIONS)
    assert metrics["zero_shot"]["top1"] == 50
    assert metrics["zero_shot"]["pessimistic"] == {"top1": 33.3333, "top5": 66.6667}  # one of three spans is lost
    assert metrics["top1"] == {"1": {"mean": 75, "std": 35.3553, "runs": [50, 100], "pessimistic": 50}}
    assert spans == [
        {
            "video_id": "b",
            "label": "spins",
            "start": 0.0,
            "end": 2.0,
            "zero_shot": "grows",
            "probes": {"1": ["grows", "spins"]},
        },
        {
            "video_id": "b",
            "label": "spins",
            "start": 2.0,
            "end": 4.0,
            "zero_shot": "spins",
            "probes": {"1": ["spins", "spins"]},
        },
    ]
    assert curve == [{"shots": 1, "top1": 75, "zero_shot": 50}]
    assert metrics["system"] == MODEL | {"scorer": None}
    assert metrics["protocol"] == {
        "split": "test",
        "num_spans": 2,
        "num_videos": 1,
        "missing_videos": 1,
        "missing_spans": 1,
        "missing_classes": 0,
        "classes": ["grows", "spins"],
        "span_views": 1,
        "chance_top1": 50,
        "selected_on": "validation",
        "seeds": [0, 1],
    }


def test_a_dataset_without_actions_gives_an_empty_result(evaluate, caplog):
    metrics, spans, curve = evaluate([])
    assert "no actions" in caplog.text
    assert (metrics["zero_shot"], metrics["top1"], metrics["top5"]) == ({}, {}, {})
    assert (metrics["protocol"]["num_spans"], metrics["protocol"]["chance_top1"]) == (0, None)
    assert spans == curve == []


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("probes/probes.jsonl", '"seed"', '"x"', "row 1: seed is missing"),
        ("probes/probes.jsonl", None, -5, "cut, or no JSON (EOF"),
        ("embeddings/classes.json", '"grows"', "1", "0 is 1: Input should be a valid string"),
        ("embeddings/model.json", '"span_views"', '"x"', "span_views is missing"),
        ("embeddings/index.jsonl", '"split"', '"x"', "row 1: split is missing"),
    ],
)
def test_a_file_that_is_read_by_key_and_damaged_is_one_line(evaluate, tmp_path, monkeypatch, file, old, new, message):
    whole = save_dataset

    def damaged(root, actions):
        whole(root, actions)
        content = (root / file).read_text(encoding="utf-8")
        (root / file).write_text(content[:new] if old is None else content.replace(old, new), encoding="utf-8")
        assert (root / file).read_text(encoding="utf-8") != content

    monkeypatch.setitem(evaluate.__globals__, "save_dataset", damaged)
    with pytest.raises(InputError) as caught:
        evaluate(ACTIONS)
    assert str(caught.value).startswith(file)
    assert message in str(caught.value)
    assert str(caught.value).endswith("; make it anew with `dvc repro`")
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("shape", [(1, 2, 3), (3, 2, 3), (2, 3, 3), (2, 2, 2)])
def test_weights_that_are_not_of_the_probes_or_the_classes_are_refused(evaluate, tmp_path, monkeypatch, shape):
    whole = save_dataset

    def damaged(root, actions):
        whole(root, actions)
        save_array(root / "probes" / "weights.npy", np.zeros(shape))

    monkeypatch.setitem(evaluate.__globals__, "save_dataset", damaged)
    with pytest.raises(InputError) as caught:
        evaluate(ACTIONS)
    assert str(caught.value) == (
        f"probes/weights.npy: of shape {shape}, but probes.jsonl beside it and embeddings tell of (2, 2, 3); "
        "make it anew with `dvc repro`"
    )
    assert not (tmp_path / "metrics.json").exists()
