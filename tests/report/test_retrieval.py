import numpy as np
import pytest

from stillmotion.report.retrieval import (
    coverage_table,
    differences_table,
    events_table,
    first_videos_table,
    frame_cosines_table,
    retrieval_pairs,
    seeds_table,
    sentences_table,
)


def rows_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


@pytest.fixture
def make(make_system):
    return lambda scorer, recalls, **fields: make_system(scorer=scorer, recalls=recalls, **fields)


def with_values(evidence, **of_system):
    """The evidence with these values by model, scorer and measure, which differ from query to query."""
    for row, (key, measure) in enumerate(zip(evidence.values["key"], evidence.values["measure"], strict=True)):
        values = of_system[f"{key.replace('-', '_')}_{measure[-1]}"]
        evidence.values.at[row, "values"] = np.array(values, dtype=float)
    return evidence


def test_scorers_are_compared_with_the_first_fine_tuned_with_their_base_and_expanded_with_what_was_expanded(
    make, make_evidence
):
    tuned = {"recipe": "half", "seed": 0}
    found = make_evidence(
        make("mean", {1: 1, 4: 2}),
        make("class_token", {1: 1, 4: 3}),
        make("mean", {1: 1, 4: 2}, **tuned),
        make("mug", {1: 9}, **tuned),
        make("mug", {1: 9}, expansion="stan", **tuned),
    )
    assert [str(pair) for pair in retrieval_pairs(found)] == [
        "clip-class_token − clip-mean (R@1, 4 clips)",
        "clip-half-0-mug − clip-half-0-mean (R@1, 1 clip)",
        "clip-half-0-mean − clip-mean (R@1, 4 clips)",
        "clip-stan-half-0-mug − clip-half-0-mug (R@1, 1 clip)",
    ]
    rows = rows_of(differences_table(found))[2:]
    # p is at least 2 / (R + 1)
    assert rows[0] == ["clip-class_token − clip-mean", "+1.0 (+1.0 to +1.0)", "0.005"]
    # a number of clips that is not the most of both is said
    assert [row[0] for row in rows[1:]] == [
        "clip-half-0-mug − clip-half-0-mean (1 clip)",
        "clip-half-0-mean − clip-mean",
        "clip-stan-half-0-mug − clip-half-0-mug",
    ]


def test_the_seeds_of_a_model_are_compared_as_one(make, make_evidence):
    tuned = [make("mean", {1: 40 + 20 * seed}, recipe="half", seed=seed) for seed in (0, 1)]
    (row,) = rows_of(differences_table(make_evidence(make("mean", {1: 30}), *tuned)))[2:]
    assert row[:2] == ["clip-half-mean, 2 seeds − clip-mean", "+20.0 (+20.0 to +20.0)"]


def test_systems_without_queries_or_anything_beside_them_are_compared_with_nothing(make, make_evidence):
    assert differences_table(make_evidence()) == ""
    assert differences_table(make_evidence(make("mean", {}), make("mug", {}))) == ""
    assert differences_table(make_evidence(make("mean", {1: 1}, recipe="half"))) == ""


def test_the_seeds_of_a_recipe_are_averaged_and_what_has_one_seed_or_no_result_is_left_out(make, make_evidence):
    def tuned(seed, r1, recipe="half"):
        t2v = {"R@1": r1, "R@5": 70.04, "R@10": 80.06, "MedR": 1.5, "MeanR": 3.0} if r1 else {}
        return make("mean", {}, recipe=recipe, seed=seed, metrics={"t2v": t2v})

    found = make_evidence(tuned(0, 50.0), tuned(1, 54.0), tuned(2, None), tuned(0, 60.0, "all"))
    # by hand: (50 + 54) / 2, and the sample deviation √(2² + 2²)
    assert rows_of(seeds_table(found))[2:] == [
        ["clip-half-mean, 2 seeds", "52.0 ± 2.8", "70.0 ± 0.0", "80.1 ± 0.0", "1.5 ± 0.0", "3.0 ± 0.0"]
    ]
    assert seeds_table(make_evidence(tuned(0, 50.0))) == ""


def test_systems_are_listed_by_sentences_by_events_and_by_what_they_find_first(make, make_evidence):
    queries = [("a. b.", 4), ("a.", 1), ("a. b. c. d. e.", 1), ("a. b. c. d.", 9), ("b", 4), ("c!", 3), ("d.", 0)]
    shows = ["the right one", "neither", "the right one", "a described event"]
    found = make_evidence(
        make("mean", {4: 0}), make("mug", {}), queries=queries, first_shows={"clip-mean": shows}, num=7
    )
    with_values(found, clip_mean_1=[0, 100, 0, 100, 50, 0, 0], clip_mean_5=[100, 100, 0, 100, 100, 0, 0])
    assert rows_of(sentences_table(found))[::2] == [
        ["sentences of the caption", "1", "2", "4 or more"],
        ["captions", "4", "1", "2"],
    ]
    assert rows_of(sentences_table(found))[3:] == [["clip-mean", "37.5 / 50.0", "0.0 / 100.0", "50.0 / 50.0"]]
    assert rows_of(events_table(found))[::2] == [["events of the video", "1", "3 or more"], ["captions", "1", "2"]]
    assert rows_of(events_table(found))[3:] == [["clip-mean", "100.0 / 100.0", "25.0 / 50.0"]]
    assert rows_of(first_videos_table(found))[::2] == [
        ["the first video shows", "the right one", "a described event", "its subject alone", "neither"],
        ["clip-mean", "50.0", "25.0", "0.0", "25.0"],
    ]


def test_the_first_videos_of_all_seeds_are_one_row(make, make_evidence):
    systems = [make("mean", {}, recipe="half", seed=seed) for seed in (0, 1)]
    shows = {"clip-half-0-mean": ["neither"] * 2, "clip-half-1-mean": ["neither", "the right one"]}
    table = first_videos_table(make_evidence(*systems, first_shows=shows))
    assert rows_of(table)[2:] == [["clip-half-mean, 2 seeds", "25.0", "0.0", "0.0", "75.0"]]


def test_captions_of_one_length_and_videos_of_which_nothing_is_known_have_no_table(make, make_evidence):
    found = make_evidence(make("mean", {1: 0}), queries=[("a.", 1), ("b.", 1), ("c.", 0)], num=3)
    assert sentences_table(found) == events_table(found) == first_videos_table(found) == ""


def test_each_system_has_its_recall_in_each_group_of_coverage_with_the_most_clips(make, make_evidence):
    systems = [make("mean", {1: 0, 4: 0}), make("mug", {}), make("mug", {1: 0}, recipe="half", seed=0)]
    systems.append(make("mug", {1: 0}, recipe="half", seed=1))
    found = make_evidence(*systems, coverage=["up", "up", "bottom", "bottom", "up"], num=5)
    values = {"clip_mean": [100, 0, 100, 100, 100], "clip_half_0_mug": [100] * 5, "clip_half_1_mug": [0] * 5}
    with_values(found, **{f"{key}_{k}": of for key, of in values.items() for k in (1, 5)})
    table = rows_of(coverage_table(found))
    assert table[0] == ["T2V R@1", "up", "middle", "bottom"]
    assert table[2] == ["share of the queries (number)", "60.0 % (3)", "0.0 % (0)", "40.0 % (2)"]
    assert table[3][0] == "clip-mean"
    assert table[3][1].startswith("66.7 (")
    assert table[3][2:] == ["–", "100.0 (100.0 to 100.0)"]
    assert table[4] == ["clip-half-mug, 2 seeds", "50.0 (50.0 to 50.0)", "–", "50.0 (50.0 to 50.0)"]
    assert len(table) == 5
    assert coverage_table(make_evidence(make("mean", {}), coverage=[])) == ""


def test_models_whose_frames_were_compared_are_listed_once_with_how_alike_these_are(make, make_evidence):
    def cosine(value, scorer="mug", **fields):
        return make(scorer, {}, metrics={"mean_frame_cosine": value}, **fields)

    found = make_evidence(
        make("mean", {}),
        cosine(0.4567, "cosine"),
        cosine(0.4567),
        cosine(None, expansion="stan"),
        cosine(0.5, recipe="half", seed=0),
        cosine(0.75, recipe="half", seed=1),
    )
    assert rows_of(frame_cosines_table(found))[2:] == [
        ["clip", "0.46"],
        ["clip-stan", "–"],
        ["clip-half, 2 seeds", "0.62"],
    ]
    assert frame_cosines_table(make_evidence(make("mean", {}))) == ""
