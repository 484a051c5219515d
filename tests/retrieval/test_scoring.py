import importlib
import inspect
import typing
from pathlib import Path

import numpy as np
import pytest

from stillmotion.config.scorers import ScorerParams
from stillmotion.config.section import Section
from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption
from stillmotion.io.tables import write_json, write_rows
from stillmotion.retrieval.pairs import RetrievalPairs
from stillmotion.retrieval.scoring import Queries, Ranked, Scorer, ScorerInputs, Untrained, module_of, rank_scores

CLASSES = typing.get_args(typing.get_args(ScorerParams)[0])
"""Every kind of scorer that params.yaml can name."""


@pytest.mark.parametrize("params", CLASSES, ids=lambda params: params.__name__)
def test_each_kind_of_scorer_names_a_module_that_opens_it(params):
    module = importlib.import_module(module_of(params))
    assert Path(module.__file__).parent.name == "retrieval"
    assert [*inspect.signature(module.open_scorer).parameters] == ["params", "queries", "inputs"]
    opened = typing.get_type_hints(module.open_scorer)
    accepted = typing.get_args(opened["params"]) or (opened["params"],)
    assert issubclass(params, accepted)
    assert opened["queries"] is Queries
    assert opened["inputs"] is ScorerInputs
    wanted = {*typing.get_type_hints(Scorer), "inference_tricks", "described"}
    has = {*typing.get_type_hints(opened["return"]), *dir(opened["return"])}
    assert wanted | {"rank"} <= has
    assert typing.get_type_hints(opened["return"].rank)["return"] == list[Ranked]


def test_what_has_nothing_to_train_sees_a_video_as_one_clip_and_has_no_seeds():
    assert (Untrained().clip_counts, Untrained().seeds) == ((1,), ())
    assert Untrained().selected_on.startswith("nothing")


def test_each_direction_is_ranked_by_its_own_scores():
    """Three texts, of which the first two tell of video a: by hand."""
    pairs = RetrievalPairs(
        clips_VCD=np.zeros((2, 1, 2)),
        texts_ND=np.zeros((3, 2)),
        video_of_N=np.array([0, 0, 1]),
        video_ids=["a", "b"],
        captions=[Caption(f"c{row}", "aab"[row], "x", None, None) for row in range(3)],
        missing=[],
        logit_scale=1.0,
    )
    t2v_TV = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    v2t_TV = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    found = rank_scores(pairs, t2v_TV, v2t_TV, "average")
    assert found.directions["t2v"].ranks_Q.tolist() == [1.0, 2.0, 1.5]
    # of a the second text comes second, of b the third comes third: the best of each video's texts
    assert found.directions["v2t"].ranks_Q.tolist() == [2.0, 3.0]
    assert [[video for video in row if video >= 0] for row in found.negatives_TK.tolist()] == [[1], [1], [0]]
    assert rank_scores(pairs, t2v_TV, v2t_TV, "optimistic").directions["t2v"].ranks_Q.tolist() == [1.0, 2.0, 1.0]


def test_scores_of_another_shape_than_the_queries_and_the_gallery_are_told(queries):
    for shape in ((3, 4), (3, 2), (4, 3), (3,)):
        with pytest.raises(AssertionError, match=r"make \(texts, videos\), which is \(3, 3\)"):
            rank_scores(queries.any_clips, np.ones(shape), np.ones((3, 3)), "average")


def test_a_kind_that_no_module_opens_is_told():
    class Forgotten(Section):
        pass

    with pytest.raises(AssertionError, match=r"^Forgotten is not in MODULES of retrieval/scoring\.py; add it there"):
        module_of(Forgotten)


def test_queries_are_the_whole_captions_of_the_test_split_in_rows_of_their_files(tmp_path):
    videos = {"t": "train", "b": "test", "a": "test", "quiet": "test"}
    write_json(tmp_path / "model.json", {"dim": 1, "clip_counts": [1, 2], "logit_scale": 1.0})
    write_rows(tmp_path / "index.jsonl", [EmbeddedVideo(*item, 4.0, 0, 1, [0], [0]).row() for item in videos.items()])
    save_array(tmp_path / "clips.npy", np.arange(12, dtype=np.float32).reshape(4, 3, 1))
    save_array(tmp_path / "captions.npy", np.arange(5, dtype=np.float32)[:, None])
    captions = [
        Caption("0", "a", "a part", 0.0, 1.0),
        Caption("1", "a", "all of a", None, None),
        Caption("2", "b", "all of b", None, None),
        Caption("3", "lost", "no video", None, None),
        Caption("4", "t", "trained on", None, None),
    ]
    queries = Queries(Embeddings(tmp_path), captions, videos | {"lost": "test"})
    assert queries.text_rows_T == [1, 2]
    assert queries.video_rows_V == [2, 1]
    assert queries.any_clips.texts_ND.tolist() == [[1.0], [2.0]]
    assert queries.any_clips.clips_VCD.tolist() == [[[6.0]], [[3.0]]]
    assert queries.pairs(2).clips_VCD.tolist() == [[[7.0], [8.0]], [[4.0], [5.0]]]
    assert [caption.caption_id for caption in queries.any_clips.missing] == ["3"]
