from dataclasses import replace

import numpy as np
import pytest

from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Action, save_records
from stillmotion.io.tables import write_json, write_rows

VIDEOS = [
    EmbeddedVideo("a", "train", 6.0, 0, 3, [0, 2], [0, 1, 2]),
    EmbeddedVideo("b", "test", 4.0, 3, 2, [0, 1], [0, 1]),
]
ACTIONS = [
    Action("a", "spins", 0.0, 2.0),
    Action("a", "grows", 2.0, 4.0),
    Action("b", "spins", 0.0, 4.0),
]


@pytest.fixture
def folder(tmp_path):
    write_rows(tmp_path / "index.jsonl", [video.row() for video in VIDEOS])
    system = {"model": "tuned", "base": "small", "seed": 1}
    write_json(tmp_path / "model.json", {"dim": 2, "logit_scale": 14.25, "clip_counts": [1, 2, 4], "system": system})
    write_json(tmp_path / "classes.json", ["grows", "spins"])
    save_records(tmp_path, Action, ACTIONS)
    save_array(tmp_path / "frames.npy", np.arange(10, dtype=np.float32).reshape(5, 2))
    save_array(tmp_path / "actions.npy", np.array([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8]], np.float32))
    return tmp_path


def test_a_video_s_frames_are_found_by_its_place(folder):
    embedded = Embeddings(folder)
    assert embedded.videos == VIDEOS
    assert embedded.row_of == {"a": 0, "b": 1}
    assert embedded.video_frames(VIDEOS[0]).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert embedded.video_frames(VIDEOS[1]).tolist() == [[6, 7], [8, 9]]
    assert embedded.model["logit_scale"] == 14.25
    assert embedded.system == {"model": "tuned", "base": "small", "seed": 1, "scorer": None}


def test_labelled_spans_of_a_split_come_with_their_classes(folder):
    embedded = Embeddings(folder)
    # actions.jsonl is sorted by video and start: spins (row 0), grows (row 1) of a, spins of b
    vectors, labels = embedded.labelled_spans("train")
    assert vectors.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert labels.tolist() == [1, 0]
    assert vectors.dtype == np.float64
    vectors, labels = embedded.labelled_spans("test")
    np.testing.assert_allclose(vectors, [[0.6, 0.8]], rtol=1e-7)
    assert labels.tolist() == [1]


def test_a_split_without_spans_is_empty_and_not_an_error(folder):
    vectors, labels = Embeddings(folder).labelled_spans("validation")
    assert vectors.shape == (0, 2)
    assert labels.shape == (0,)
    assert labels.dtype == np.int64


def test_arrays_are_opened_only_when_they_are_asked_for(folder):
    embedded = Embeddings(folder)  # clips.npy and the others are not there
    with pytest.raises(InputError, match=r"clips\.npy: no such file"):
        embedded.clips(1)


def test_clips_of_each_count_lie_behind_those_of_the_smaller_ones(folder):
    save_array(folder / "clips.npy", np.arange(14, dtype=np.float32).reshape(2, 7, 1).repeat(2, axis=2))
    embedded = Embeddings(folder)
    assert [embedded.clips(count)[0, :, 0].tolist() for count in (1, 2, 4)] == [[0], [1, 2], [3, 4, 5, 6]]
    assert embedded.clips(2)[1, :, 0].tolist() == [8, 9]


@pytest.mark.parametrize("shape", [(2, 6, 2), (2, 8, 2), (2, 7, 1, 2), (2, 2)])
def test_clips_of_other_counts_are_refused(folder, shape):
    save_array(folder / "clips.npy", np.zeros(shape, np.float32))
    with pytest.raises(InputError) as caught:
        Embeddings(folder).clips(4)
    told = f"float32 of shape {shape}, but model.json beside it tells of 7 clips a video; make it anew with `dvc repro`"
    assert str(caught.value) == f"{folder / 'clips.npy'}: {told}"


def test_a_folder_without_embeddings_is_named_with_the_mend(tmp_path):
    with pytest.raises(InputError) as caught:
        Embeddings(tmp_path)
    assert str(caught.value) == f"{tmp_path}: no embeddings there; run `dvc repro`"


def test_what_was_trained_on_another_model_s_embeddings_is_refused(folder):
    write_json(folder / "model.json", {"clip_counts": [1], "model": "abc"})
    embedded = Embeddings(folder)
    embedded.require_model("abc", folder / "aggregator")
    with pytest.raises(InputError) as caught:
        embedded.require_model("def", folder / "aggregator")
    assert str(caught.value) == (
        f"{folder / 'aggregator'}: trained on the embeddings of another model than {folder} holds; train it again"
    )


@pytest.mark.parametrize(
    "frames", [np.zeros((5, 3), np.float32), np.zeros((5, 2)), np.zeros((5, 2), object), np.zeros(10, np.float32)]
)
@pytest.mark.parametrize("name", ["frames", "clips", "captions", "queries", "classes"])
def test_a_table_that_is_none_of_this_model_is_named(folder, name, frames):
    np.save(folder / f"{name}.npy", frames)
    with pytest.raises(InputError) as caught:
        _ = Embeddings(folder).clips(1) if name == "clips" else getattr(Embeddings(folder), name)
    told = (
        f"{frames.dtype} of shape {frames.shape}, but model.json beside it tells of float32 vectors of 2; make it anew"
    )
    if frames.dtype == object:
        told = "not a .npy array (Array can't be memory-mapped: Python objects in dtype.)"
    assert str(caught.value).startswith(f"{folder / name}.npy: {told}")


@pytest.mark.parametrize("change", ["other label", "other video", "a row less"])
def test_labelled_spans_of_another_table_are_refused(folder, change):
    other = replace(ACTIONS[0], **{"other label": {"label": "x"}, "other video": {"video_id": "x"}}.get(change, {}))
    save_records(folder, Action, [*ACTIONS[1:], *([] if change == "a row less" else [other])])
    with pytest.raises(
        InputError, match=r"actions\.jsonl: not the table of actions\.npy, classes\.json and index\.jsonl"
    ):
        Embeddings(folder).labelled_spans("train")
