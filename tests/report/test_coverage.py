import numpy as np
import pytest

from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption
from stillmotion.io.tables import write_json, write_rows
from stillmotion.report.coverage import query_coverage

CAPTIONS = [
    Caption("a0", "a", "of train", None, None),
    Caption("b0", "b", "whole", None, None),
    Caption("b1", "b", "a part of it", 0.0, 1.0),
    Caption("c0", "c", "whole", None, None),
]


@pytest.fixture
def embedded(tmp_path):
    """A video of train and two of the test split; three of four uniform frames of `b` are off its caption."""
    write_json(tmp_path / "model.json", {"dim": 3, "clip_counts": [1]})
    videos = [("a", "train", 0, 1, [0]), ("b", "test", 1, 5, [0, 1, 2, 4]), ("c", "test", 6, 4, [0, 1, 2, 3])]
    rows = [EmbeddedVideo(name, split, 4.0, first, num, own, [0]).row() for name, split, first, num, own in videos]
    write_rows(tmp_path / "index.jsonl", rows)
    x, y, z = np.eye(3, dtype=np.float32)
    # the fourth frame of `b` fits, and is no uniform one
    save_array(tmp_path / "frames.npy", np.stack([x, y, x, x, y, x, z, z, z, x]))
    save_array(tmp_path / "captions.npy", np.stack([x, y, x, z]))
    return Embeddings(tmp_path)


def test_groups_are_of_the_captions_that_were_asked_in_their_order(embedded):
    ranks = {"without": [], "with": [{"caption_id": "c0"}, {"caption_id": "b0"}]}
    found = query_coverage(embedded, CAPTIONS, ranks, "clip")
    assert found.model == "clip"
    assert found.group_Q.tolist() == ["up", "bottom"]


def test_where_no_frames_were_embedded_by_themselves_there_are_no_groups_and_it_is_said(embedded, tmp_path, caplog):
    (tmp_path / "frames.npy").unlink()
    assert query_coverage(embedded, CAPTIONS, {"x": [{"caption_id": "c0"}]}, "clip").group_Q.tolist() == []
    assert "clip has no single frames; put an image model first in run.embedded" in caplog.text


def test_where_nothing_was_asked_there_are_no_groups(embedded):
    found = query_coverage(embedded, CAPTIONS, {"x": []}, "clip")
    assert found.group_Q.tolist() == []
