import numpy as np

from stillmotion.report.evidence import (
    FineTuned,
    finetuned_models,
    hits_by_num_clips,
    hits_over_seeds,
    metrics_folder,
    over_seeds,
    selected_systems,
    systems_of,
)


def test_the_value_of_a_caption_is_its_mean_over_the_seeds_by_number_of_clips():
    rows = [
        {"rank_by_num_clips": {"1": [1.0, 2.0], "10": [1.0, 1.0], "2": [3.0, 1.5]}},
        {"rank_by_num_clips": {"1": [4.0, 9.0], "10": [1.0, 7.0], "2": [1.0, 1.0]}},
    ]
    hits = hits_by_num_clips(rows)
    assert list(hits) == [1, 2, 10]
    assert [hits[count].tolist() for count in hits] == [[50.0, 0.0], [0.0, 100.0], [100.0, 50.0]]
    in_five = hits_by_num_clips(rows, k=5)
    assert [in_five[count].tolist() for count in in_five] == [[100.0, 50.0], [100.0, 100.0], [100.0, 50.0]]
    assert hits_by_num_clips([]) == {}


def test_systems_are_together_where_the_seed_of_their_recipe_alone_differs():
    names = [
        "clip-a-mean",
        "clip-b-mean",
        "clip-a_seed_1-mean",
        "clip-a_seed_12-mean",
        "clip-a_seed_1-mug",
        "clip-b_seed_x",
    ]
    assert over_seeds(names) == {
        "clip-a-mean, 3 seeds": ["clip-a-mean", "clip-a_seed_1-mean", "clip-a_seed_12-mean"],
        "clip-b-mean": ["clip-b-mean"],
        "clip-a_seed_1-mug": ["clip-a_seed_1-mug"],
        "clip-b_seed_x": ["clip-b_seed_x"],
    }
    assert over_seeds(["clip-a", "clip-a_seed_1"]) == {"clip-a, 2 seeds": ["clip-a", "clip-a_seed_1"]}


def test_a_query_counts_by_its_mean_over_the_seeds_with_the_most_clips():
    hits = {
        "a-mean": {1: np.array([0.0, 0.0]), 4: np.array([100.0, 0.0])},
        "empty": {},
        "a_seed_1-mean": {4: np.array([100.0, 100.0])},
    }
    (label, hits_Q), *others = hits_over_seeds(hits).items()
    assert (label, hits_Q.tolist(), others) == ("a-mean, 2 seeds", [100.0, 50.0], [])


def test_an_ablation_speaks_for_its_own_dataset_alone(make_evidence):
    evidence = make_evidence(dataset="toy", ablations={"a": {"dataset": "toy"}, "b": {"dataset": "clips"}})
    assert evidence.ablation("a") == {"dataset": "toy"}
    assert (evidence.ablation("b"), evidence.ablation("c")) == (None, None)


def test_the_systems_of_a_run_are_every_model_with_every_head(make_run):
    run = make_run(
        expanded=["clip"],
        expansions=["xclip"],
        embedded=["clip", "clip_xclip"],
        finetuned=["clip_xclip"],
        recipes=["half", "all"],
        models=["clip", "clip_xclip-half"],
        aggregators=["mean", "class_token"],
        conditional=["clip_xclip-half"],
        aligned=["clip", "clip-half"],
        alignments=["cosine", "mug"],
        tight=["clip_xclip-half"],
        probed=["clip_xclip-half"],
        assessed=["clip"],
        selected=["clip_xclip-half"],
        shot_detectors=["shots"],
        references=["oracle"],
        submissions=["other"],
        architectures=["b32"],
    )
    assert systems_of(run) == {
        "retrieval": [
            "clip-mean",
            "clip-class_token",
            "clip_xclip-half-mean",
            "clip_xclip-half-class_token",
            "clip_xclip-half-conditional",
            "clip-cosine",
            "clip-mug",
            "clip-half-cosine",
            "clip-half-mug",
            "clip_xclip-half-tight_transformer",
        ],
        "moments": [
            "clip_xclip-half-vc1_none",
            "clip_xclip-half-vc1_norm",
            "clip_xclip-half-shots",
            "oracle",
            "other",
        ],
        "assessment": ["clip"],
        "actions": ["clip_xclip-half"],
        "resources": ["clip", "clip_xclip", "clip_xclip-half", "clip_xclip-all"],
        "architectures": ["b32"],
    }
    assert selected_systems(run) == ["clip_xclip-half-vc1_none", "clip_xclip-half-vc1_norm"]
    assert finetuned_models(run)[1] == FineTuned("clip_xclip-all", "clip_xclip", "all")


def test_full_size_architectures_lie_with_the_other_costs():
    assert [metrics_folder(task) for task in ("retrieval", "resources", "architectures")] == [
        "retrieval",
        "resources",
        "resources",
    ]


def test_evaluated_models_are_base_or_fine_tuned(make_run, make_evidence):
    run = make_run(embedded=["clip", "other"], models=["clip", "clip-half_patches"], backbones=["clip", "other"])
    found = make_evidence(run=run, hits={"clip-mean": {1: "a", 4: "b"}})
    assert found.base_models == ["clip"]
    assert [tuned.model for tuned in found.finetuned] == ["clip-half_patches"]
    assert (found.hits_at("clip", "mean", 4), found.hits_at("clip", "mean", 2)) == ("b", None)
    assert (found.most_clips("clip", "mean"), found.most_clips("clip", "class_token")) == (4, 0)
