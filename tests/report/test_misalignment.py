import numpy as np
import pytest

from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption
from stillmotion.io.tables import write_json, write_rows
from stillmotion.report.misalignment import levels_table, misalignment_section, query_levels

CAPTIONS = [
    Caption("a0", "a", "of train", None, None),
    Caption("b0", "b", "whole", None, None),
    Caption("b1", "b", "a part of it", 0.0, 1.0),
    Caption("c0", "c", "whole", None, None),
]


@pytest.fixture
def embedded(tmp_path):
    """A video of train and two of the test split; three of four uniform frames of `b` are off its caption."""
    write_json(tmp_path / "model.json", {"clip_counts": [1]})
    videos = [("a", "train", 0, 1, [0]), ("b", "test", 1, 5, [0, 1, 2, 4]), ("c", "test", 6, 4, [0, 1, 2, 3])]
    rows = [EmbeddedVideo(name, split, 4.0, first, num, own, [0]).row() for name, split, first, num, own in videos]
    write_rows(tmp_path / "index.jsonl", rows)
    x, y, z = np.eye(3, dtype=np.float32)
    # the fourth frame of `b` fits, and is no uniform one
    save_array(tmp_path / "frames.npy", np.stack([x, y, x, x, y, x, z, z, z, x]))
    save_array(tmp_path / "captions.npy", np.stack([x, y, x, z]))
    return Embeddings(tmp_path)


def test_levels_are_of_the_captions_that_were_asked_in_their_order(embedded):
    ranks = {"without": [], "with": [{"caption_id": "c0"}, {"caption_id": "b0"}]}
    found = query_levels(embedded, CAPTIONS, ranks, "clip")
    assert found.model == "clip"
    assert found.level_Q.tolist() == ["up", "bottom"]


def test_where_no_frames_were_embedded_by_themselves_there_are_no_levels(embedded, tmp_path):
    (tmp_path / "frames.npy").unlink()
    assert query_levels(embedded, CAPTIONS, {"x": [{"caption_id": "c0"}]}, "clip").level_Q.tolist() == []


def test_where_nothing_was_asked_there_are_no_levels(embedded, make_evidence):
    found = query_levels(embedded, CAPTIONS, {"x": []}, "clip")
    assert found.level_Q.tolist() == []
    evidence = make_evidence(hits={"x": {}})
    assert levels_table(evidence) == ""
    assert misalignment_section(evidence) == []


def test_models_whose_frames_were_compared_are_listed_once_with_how_alike_these_are(make_run, make_evidence):
    run = make_run(aligned=["clip", "stan", "clip-a", "clip-a_seed_1"], alignments=["cosine", "mug"])
    retrieval = {"clip-cosine": {"mean_frame_cosine": 0.4567}, "clip-mug": {"mean_frame_cosine": 0.4567}}
    retrieval |= {"stan-mug": {"mean_frame_cosine": None}}
    retrieval |= {"clip-a-mug": {"mean_frame_cosine": 0.5}, "clip-a_seed_1-mug": {"mean_frame_cosine": 0.75}}
    found = {"run": run, "hits": {"clip-mug": {1: np.zeros(2)}}, "levels": ["up", "bottom"]}
    *_, table = misalignment_section(make_evidence(**found, retrieval=retrieval))
    assert table.splitlines()[2:] == ["| clip | 0.46 |", "| stan | – |", "| clip-a, 2 seeds | 0.62 |"]
    assert "cosine of two frames" not in misalignment_section(make_evidence(**found))[-1]


def test_each_system_has_its_recall_in_each_level_with_the_most_clips(make_evidence):
    hits = {
        "clip-mean": {1: np.zeros(5), 4: np.array([100.0, 0.0, 100.0, 100.0, 100.0])},
        "clip-mug": {1: np.array([50.0, 50.0, 0.0, 0.0, 100.0])},
        "nothing": {},
        "clip-a-mug": {1: np.full(5, 100.0)},
        "clip-a_seed_1-mug": {1: np.array([0.0, 0.0, 0.0, 0.0, 0.0])},
    }
    evidence = make_evidence(hits=hits, levels=["up", "up", "bottom", "bottom", "up"])
    table = levels_table(evidence).splitlines()
    assert table[0] == "| T2V R@1 | up | middle | bottom |"
    assert table[2] == "| share of the queries (number) | 60.0 % (3) | 0.0 % (0) | 40.0 % (2) |"
    assert table[3].startswith("| clip-mean | 66.7 (")
    assert table[3].endswith(" | – | 100.0 (100.0 to 100.0) |")
    assert table[4].endswith(" | – | 0.0 (0.0 to 0.0) |")
    assert table[5] == "| clip-a-mug, 2 seeds | 50.0 (50.0 to 50.0) | – | 50.0 (50.0 to 50.0) |"
    assert len(table) == 6
    assert any("by the cosines of clip:" in part for part in misalignment_section(evidence))
