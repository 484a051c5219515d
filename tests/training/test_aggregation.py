import math
from itertools import permutations

import numpy as np
import pytest
import torch

from stillmotion.config.scorers import MeanParams, TransformerParams
from stillmotion.config.training import TrainAggregatorParams
from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption
from stillmotion.io.tables import write_json, write_rows
from stillmotion.metrics.retrieval import QueryRanks
from stillmotion.retrieval.aggregators import aggregate, build_aggregator
from stillmotion.retrieval.pairs import RetrievalPairs, rank_rows, retrieval_pairs, retrieval_protocol
from stillmotion.training.aggregation import AggregatorTraining, fit_aggregators

DIM = 16
CAPTIONS = [
    Caption("c0", "late", "whole", None, None),
    Caption("c1", "early", "whole", None, None),
    Caption("c2", "early", "a span", 0.0, 2.0),
    Caption("c3", "early", "whole again", None, None),
    Caption("c4", "gone", "whole", None, None),
    Caption("c5", "gone", "a span", 0.0, 2.0),
    Caption("c6", "other", "whole", None, None),
    Caption("c7", "other gone", "whole", None, None),
]
SPLITS = {"early": "test", "late": "test", "gone": "test", "plain": "test", "other": "train", "other gone": "train"}


@pytest.fixture
def embedded(tmp_path):
    videos = [
        EmbeddedVideo(name, SPLITS[name], 4.0, 2 * row, 2, [0, 1], [0, 1])
        for row, name in enumerate(["early", "late", "other", "plain"])
    ]
    write_rows(tmp_path / "index.jsonl", [video.row() for video in videos])
    write_json(tmp_path / "model.json", {"dim": 2, "logit_scale": 14.5, "clip_counts": [1, 2]})
    both = np.arange(16, dtype=np.float32).reshape(4, 2, 2)
    single = -np.ones((4, 1, 2), np.float32)
    save_array(tmp_path / "clips.npy", np.concatenate([single, both], axis=1))
    save_array(tmp_path / "captions.npy", np.arange(16, dtype=np.float32).reshape(8, 2))
    return Embeddings(tmp_path)


def test_the_captions_of_whole_videos_come_with_their_videos(embedded):
    pairs = retrieval_pairs(embedded, CAPTIONS, "test", SPLITS, num_clips=2)
    assert pairs.video_ids == ["early", "late"]  # `plain` has no caption: it is not in the gallery
    assert [caption.caption_id for caption in pairs.captions] == ["c0", "c1", "c3"]
    assert pairs.video_of_N.tolist() == [1, 0, 0]
    assert pairs.clips_VCD.tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert pairs.texts_ND.tolist() == [[0, 1], [2, 3], [6, 7]]
    assert [caption.caption_id for caption in pairs.missing] == ["c4"]
    assert pairs.logit_scale == 14.5
    assert len(pairs) == 3


def test_each_number_of_clips_has_its_own(embedded):
    pairs = retrieval_pairs(embedded, CAPTIONS, "test", SPLITS, num_clips=1)
    assert pairs.clips_VCD.tolist() == [[[-1, -1]], [[-1, -1]]]
    assert pairs.relevance.tolist() == [[0, 1], [1, 0], [2, 0]]


def test_rows_of_ranks_name_the_hardest_negatives_and_the_ranks_of_each_seed(embedded):
    pairs = retrieval_pairs(embedded, CAPTIONS, "test", SPLITS, num_clips=2)
    one, two = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    zeros = np.zeros(3)
    ranks = {"1": [QueryRanks(one, zeros)], "2": [QueryRanks(one, zeros), QueryRanks(two, zeros)]}
    rows = rank_rows(pairs, ranks, np.array([[0, -1], [1, -1], [1, 0]]))
    assert rows[0] == {
        "caption_id": "c0",
        "video_id": "late",
        "text": "whole",
        "rank": [1.0, 4.0],
        "rank_by_num_clips": {"1": [1.0], "2": [1.0, 4.0]},
        "hardest_negatives": ["early"],
    }
    assert rows[2]["hardest_negatives"] == ["late", "early"]


def test_the_protocol_counts_queries_gallery_and_what_is_missing(embedded):
    pairs = retrieval_pairs(embedded, CAPTIONS, "test", SPLITS, num_clips=2)
    protocol = retrieval_protocol(pairs, ties="average", truncated={"captions": 3})
    found = [protocol[name] for name in ("num_queries", "gallery_size", "missing_videos", "missing_queries")]
    assert found == [3, 2, 1, 1]
    assert protocol["truncated_captions"] == 3


def test_without_the_splits_of_lost_videos_none_is_missing(embedded):
    assert retrieval_pairs(embedded, CAPTIONS, "test", num_clips=2).missing == []


def test_a_split_without_videos_gives_no_pairs_and_keeps_its_shapes(embedded):
    pairs = retrieval_pairs(embedded, CAPTIONS, "validation", SPLITS, num_clips=2)
    assert len(pairs) == 0
    assert pairs.clips_VCD.shape == (0, 2, 2)
    assert pairs.texts_ND.shape == (0, 2)
    assert pairs.missing == []


def test_aggregate_gives_numpy_embeddings_without_gradients():
    mean = build_aggregator(MeanParams(kind="mean"), dim=2, num_clips=2, seed=0)
    found = aggregate(mean, np.array([[[1.0, 0.0], [0.0, 1.0]]], np.float32))
    np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5]], rtol=1e-6)


def ordered_events(noise_seed):
    """Videos of two of six events, and texts that say which comes first: the mean of the clips can't know."""
    events = np.eye(DIM, dtype=np.float32)[:6]
    rng = np.random.default_rng(noise_seed)
    clips, texts = [], []
    for first, second in permutations(range(6), 2):
        clip = np.stack([events[first], events[second]]) + 0.02 * rng.normal(size=(2, DIM))
        text = 2 * events[first] + events[second]
        clips.append(clip / np.linalg.norm(clip, axis=1, keepdims=True))
        texts.append(text / np.linalg.norm(text))
    num = len(texts)
    return RetrievalPairs(
        clips_VCD=np.array(clips, np.float32),
        texts_ND=np.array(texts, np.float32),
        video_of_N=np.arange(num),
        video_ids=[f"{row:02}" for row in range(num)],
        captions=[Caption(f"{row:02}", f"{row:02}", "", None, None) for row in range(num)],
        missing=[],
        logit_scale=10.0,
    )


def recall(aggregator, pairs):
    """Share of texts whose video scores highest of all."""
    scores = pairs.texts_ND @ aggregate(aggregator, pairs.clips_VCD).T
    own = scores[np.arange(len(scores)), pairs.video_of_N]
    return 100 * np.mean([(row > value).sum() == 0 for row, value in zip(scores, own, strict=True)])


def make_params(epochs):
    return TrainAggregatorParams(
        epochs=epochs,
        batch_size=30,
        learning_rate=3e-3,
        weight_decay=0.01,
        warmup_fraction=0.1,
        gradient_clip=1.0,
        seeds=[0],
    )


def trained(kind, train, validation, epochs=60, seed=0):
    aggregator = build_aggregator(TransformerParams(kind=kind, heads=2, mlp_ratio=2.0), dim=DIM, num_clips=2, seed=seed)
    (fitted,) = fit_aggregators(
        [AggregatorTraining(aggregator, train, validation, seed)], make_params(epochs), at_once=1
    )
    return aggregator, fitted


@pytest.mark.parametrize("kind", ["transformer_mean", "class_token"])
def test_training_learns_the_order_that_the_mean_of_clips_can_not_know(kind):
    train, validation = ordered_events(0), ordered_events(1)
    mean = build_aggregator(MeanParams(kind="mean"), dim=DIM, num_clips=2, seed=0)
    assert recall(mean, validation) < 75
    aggregator, fitted = trained(kind, train, validation)
    assert recall(aggregator, validation) > 90
    scores = [row["score"] for row in fitted.history]
    assert fitted.history[fitted.best_epoch]["score"] == max(scores)
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]


def test_the_aggregator_ends_with_the_best_epoch_s_weights_which_are_what_is_saved():
    train, validation = ordered_events(0), ordered_events(1)
    aggregator, fitted = trained("transformer_mean", train, validation, epochs=8)
    assert fitted.best.keys() == aggregator.state_dict().keys()
    assert all(torch.equal(value, aggregator.state_dict()[name]) for name, value in fitted.best.items())
    assert recall(aggregator, validation) == pytest.approx(fitted.history[fitted.best_epoch]["score"])


def test_without_validation_pairs_the_last_epoch_is_kept():
    train = ordered_events(0)
    none = RetrievalPairs(train.clips_VCD[:0], train.texts_ND[:0], np.zeros(0, np.int64), [], [], [], 10.0)
    _, fitted = trained("transformer_mean", train, none, epochs=2)
    assert fitted.best_epoch == 1
    assert all("score" not in row for row in fitted.history)


def test_a_single_validation_video_which_always_comes_first_chooses_no_epoch():
    train = ordered_events(0)
    one = RetrievalPairs(
        train.clips_VCD[:1], train.texts_ND[:2], np.zeros(2, np.int64), ["00"], train.captions[:2], [], 10.0
    )
    _, fitted = trained("transformer_mean", train, one, epochs=2)
    assert fitted.best_epoch == 1
    assert all("score" not in row for row in fitted.history)


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    train, validation = ordered_events(0), ordered_events(1)
    first, same, other = (trained("class_token", train, validation, 2, seed)[1].best for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("at_once", [2, 3])
def test_trainings_at_once_end_in_their_order_with_the_bits_of_one_after_another(at_once, caplog):
    train, validation = ordered_events(0), ordered_events(1)
    settings = TransformerParams(kind="transformer_mean", heads=2, mlp_ratio=2.0)

    def fitted(at_once):
        trainings = [
            AggregatorTraining(build_aggregator(settings, dim=DIM, num_clips=2, seed=seed), train, validation, seed)
            for seed in range(5)
        ]
        return list(fit_aggregators(trainings, make_params(3), at_once=at_once))

    threads = torch.get_num_threads()
    caplog.set_level("INFO", logger="stillmotion")
    alone, together = fitted(1), fitted(at_once)
    # 5 trainings of 3 epochs
    steps = 5 * 3 * math.ceil(len(train) / 30)
    assert [line.split(" in ")[0] for line in caplog.messages] == [f"steps of training 5 aggregators: {steps}"] * 2
    assert torch.get_num_threads() == threads
    assert len(together) == 5
    for one, other in zip(alone, together, strict=True):
        assert one.history == other.history
        assert all(torch.equal(one.best[name], other.best[name]) for name in one.best)


def test_the_first_training_that_fails_is_named_and_ends_them_all():
    train, validation = ordered_events(0), ordered_events(1)
    settings = TransformerParams(kind="transformer_mean", heads=2, mlp_ratio=2.0)
    trainings = [
        AggregatorTraining(build_aggregator(settings, dim=DIM, num_clips=2, seed=seed), train, validation, seed)
        for seed in range(3)
    ]
    for value in trainings[1].aggregator.parameters():
        torch.nn.init.constant_(value, torch.nan)
    found = fit_aggregators(trainings, make_params(2), at_once=2)
    assert len(next(found).history) == 2
    with pytest.raises(InputError, match=r"the loss is nan at step 0 of training the aggregator, 2 clips, seed 1"):
        next(found)


def test_several_captions_of_a_video_are_all_trained_on():
    single = ordered_events(0)
    twice = RetrievalPairs(
        clips_VCD=single.clips_VCD,
        texts_ND=np.concatenate([single.texts_ND] * 2),
        video_of_N=np.concatenate([single.video_of_N] * 2),
        video_ids=single.video_ids,
        captions=single.captions * 2,
        missing=[],
        logit_scale=10.0,
    )
    _, fitted = trained("transformer_mean", twice, ordered_events(1), epochs=2)
    assert len(fitted.history) == 2
