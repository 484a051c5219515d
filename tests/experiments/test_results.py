import pytest

from stillmotion.errors import InputError
from stillmotion.experiments.plan import Collection, PlannedRun
from stillmotion.experiments.results import Collected, collected_rows, study_result

HISTORY = [
    {"epoch": 0, "loss": 2.0, "score": 40.0},
    {"epoch": 1, "loss": 1.0, "score": 55.0},
    {"epoch": 2, "loss": 0.9},
]
RANKS = [
    {"rank": [9], "rank_by_num_clips": {"1": [1.0], "2": [9.0]}},
    {"rank": [9], "rank_by_num_clips": {"1": [1.5], "2": [9.0]}},
    {"rank": [1], "rank_by_num_clips": {"1": [7.0], "2": [1.0]}},
    {"rank": [9], "rank_by_num_clips": {"1": [1.0], "2": [9.0]}},
]


def planned(value=32, seeds=(4,)):
    return PlannedRun(f"b-{value}-{seeds[0]}", value, seeds, "toy", ())


@pytest.fixture
def make_collection(make_study):
    """What is collected of the study of the batch size, with changes; of the aggregator where `of_aggregator`."""

    def make(*, of_aggregator=False, **changes):
        collect = make_study(of_aggregator=of_aggregator, collect=changes).collect
        return Collection("b", "recipes.mug.batch_size", collect, "clip-mug", "mean")

    return make


def test_a_fine_tuning_is_one_run_of_its_best_epoch_and_its_number_of_clips(make_collection):
    assert collected_rows(planned(), make_collection(), HISTORY, RANKS) == [
        {
            "seed": 4,
            "validation_R@1": 55.0,
            "test_R@1": 50.0,
            "test_hits": [100.0, 0.0, 0.0, 100.0],
            "experiment": "b-32-4",
        }
    ]


def test_the_recall_is_the_one_that_is_asked_for(make_collection):
    ranks = [{"rank_by_num_clips": {"1": [rank]}} for rank in (1.0, 5.0, 5.5, 6.0)]
    (run,) = collected_rows(planned(), make_collection(recall_at=5), HISTORY, ranks)
    assert (run["test_R@5"], run["test_hits"]) == (50.0, [100.0, 100.0, 0.0, 0.0])


def test_each_seed_of_the_aggregator_is_a_run_with_its_own_ranks_and_epochs(make_collection):
    history = [
        {"num_clips": 1, "seed": 0, "epoch": 0, "score": 90.0},
        {"num_clips": 2, "seed": 0, "epoch": 0, "score": 30.0},
        {"num_clips": 2, "seed": 0, "epoch": 1, "score": 20.0},
        {"num_clips": 2, "seed": 7, "epoch": 0, "score": 10.0},
        {"num_clips": 2, "seed": 7, "epoch": 1, "score": 25.0},
    ]
    ranks = [{"rank_by_num_clips": {"2": [1.0, 3.0]}}, {"rank_by_num_clips": {"2": [1.0, 1.0]}}]
    runs = collected_rows(planned(seeds=(0, 7)), make_collection(of_aggregator=True, num_clips=2), history, ranks)
    assert [(run["seed"], run["validation_R@1"], run["test_R@1"], run["test_hits"]) for run in runs] == [
        (0, 30.0, 100.0, [100.0, 100.0]),
        (7, 25.0, 50.0, [0.0, 100.0]),
    ]


def test_the_aggregators_seeds_below_one_fine_tuning_are_its_mean(make_collection):
    ranks = [{"rank_by_num_clips": {"1": [1.0, 3.0]}}, {"rank_by_num_clips": {"1": [1.0, 1.0]}}]
    (run,) = collected_rows(planned(), make_collection(), HISTORY, ranks)
    assert (run["test_R@1"], run["test_hits"]) == (75.0, [50.0, 100.0])


def test_no_validation_score_and_no_test_query_are_errors(make_collection):
    unscored = [{"epoch": 0, "loss": 2.0}]
    with pytest.raises(InputError, match="no validation score of seed 4; the dataset needs captions"):
        collected_rows(planned(), make_collection(), unscored, RANKS)
    with pytest.raises(InputError, match="no test query; the dataset needs captions in its test split"):
        collected_rows(planned(), make_collection(), HISTORY, [])


def test_the_result_has_the_points_in_order_with_their_runs_and_the_mean_cost(make_collection):
    def collected(value, seed, seconds):
        cost = {"forward_flops": 10, "backward_flops": 20, "peak_memory_mib": 5.0, "seconds_a_step": seconds}
        return Collected(planned(value, (seed,)), [{"seed": seed}], {**cost, "device": "cpu", "parameters": 3})

    found = study_result(
        make_collection(cost=True),
        [64, 32, "none"],
        [collected(64, 0, 0.5), collected(64, 1, 1.5), collected("none", 0, 2)],
    )
    assert {name: value for name, value in found.items() if name != "points"} == {
        "name": "b",
        "title": "Batch size",
        "dataset": "toy",
        "param": "recipes.mug.batch_size",
        "model": "clip-mug",
        "aggregator": "mean",
        "num_clips": 1,
        "recall_at": 1,
    }
    cost = {"forward_flops": 10.0, "backward_flops": 20.0, "peak_memory_mib": 5.0}
    assert found["points"] == [
        {"value": 64, "runs": [{"seed": 0}, {"seed": 1}], "cost": cost | {"seconds_a_step": 1.0}},
        {"value": 32, "runs": []},
        {"value": "none", "runs": [{"seed": 0}], "cost": cost | {"seconds_a_step": 2.0}},
    ]
