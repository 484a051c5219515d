from pathlib import Path

import pytest
import ruamel.yaml

from stillmotion.config.loading import load_params
from stillmotion.config.models import BuiltinBackboneParams, OpenClipBackboneParams, XClipBackboneParams
from stillmotion.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[1]
TEXT = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
RUN = {
    "backbones": ["small_clip"],
    "expanded": [],
    "expansions": [],
    "corpora": [],
    "post_pretrained": [],
    "post_pretraining": [],
    "embedded": ["small_clip"],
    "finetuned": ["small_clip"],
    "recipes": ["half_patches"],
    "models": ["small_clip", "small_clip-half_patches"],
    "aggregators": ["mean", "transformer_mean", "class_token"],
    "conditional": [],
    "aligned": [],
    "alignments": [],
    "tight": [],
    "attended": [],
    "probed": ["small_clip"],
    "assessed": ["small_clip"],
    "selected": ["small_clip"],
    "selections": ["vc1_none", "vc1_log_smooth_norm"],
    "shot_detectors": [],
    "references": ["oracle"],
    "submissions": [],
    "architectures": [],
}
"""So that variants that are added to params.yaml change nothing here."""
TIGHT = [
    ("run.expanded", ["small_clip"]),
    ("run.expansions", ["tight_transf"]),
    ("run.embedded", ["small_clip", "small_clip_tight_transf"]),
    ("run.finetuned", ["small_clip", "small_clip_tight_transf"]),
    ("run.tight", ["small_clip_tight_transf-half_patches"]),
    ("embed.tokens", True),
]
"""What scores retrieval by a tight transformer."""
ALIGNMENT = {"interaction": "mutual", "tau": 1.0, "top_k": 1, "dual_softmax": False}


def edited(tmp_path, *changes):
    """params.yaml of the repository with values set by dotted name, `...` for taking one out."""
    data = ruamel.yaml.YAML(typ="safe", pure=True).load(TEXT)
    data["run"] = dict(RUN)
    for section in ("recipes", "aggregators", "selections"):
        data[section] = {name: data[section][name] for name in RUN[section]}
    for name, value in changes:
        *parents, last = name.split(".")
        block = data
        for parent in parents:
            block = block[parent]
        if value is ...:
            del block[last]
        else:
            block[last] = value
    path = tmp_path / "params.yaml"
    with path.open("w", encoding="utf-8") as file:
        yaml = ruamel.yaml.YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.dump(data, file)
    return path


def message_of(path):
    with pytest.raises(InputError) as caught:
        load_params(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_the_params_of_the_repository_load():
    params = load_params(REPOSITORY / "params.yaml")
    written = ruamel.yaml.YAML(typ="safe", pure=True).load(TEXT)
    assert params.dataset == written["dataset"]
    assert params.model_dump() == written
    families = {"builtin": BuiltinBackboneParams, "open_clip": OpenClipBackboneParams, "xclip": XClipBackboneParams}
    assert all(type(block) is families[block.family] for block in params.backbones.values())


def test_params_are_frozen():
    params = load_params(REPOSITORY / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.embed.clip_frames = 4


def test_an_exponent_without_a_point_is_a_number_as_in_yaml_1_2(tmp_path):
    path = edited(tmp_path, ("recipes.half_patches.learning_rate", 123.0))
    text = path.read_text(encoding="utf-8")
    assert text.count("learning_rate: 123.0") == 1
    path.write_text(text.replace("learning_rate: 123.0", "learning_rate: 1e-4"), encoding="utf-8")
    assert load_params(path).recipes["half_patches"].learning_rate == 0.0001


def test_a_whole_number_stands_for_a_float(tmp_path):
    rate = load_params(edited(tmp_path, ("train_aggregator.learning_rate", 1))).train_aggregator.learning_rate
    assert rate == 1


@pytest.mark.parametrize(
    ("name", "misspelt", "right"),
    [
        ("embed.clip_frams", "embed.clip_frams", "clip_frames"),
        ("recipes.half_patches.learing_rate", "recipes.half_patches.learing_rate", "learning_rate"),
        ("backbones.small_clip.warmup_fracton", "backbones.small_clip.warmup_fracton", "warmup_fraction"),
        ("download.generated.toy.num_trian", "download.generated.toy.num_trian", "num_train"),
        ("expansions.stan.num_layer", "expansions.stan.num_layer", "num_layers"),
        ("expansions.seq_lstm.haed", "expansions.seq_lstm.haed", "head"),
        ("architectures.vit_b_32_12f.num_frame", "architectures.vit_b_32_12f.num_frame", "num_frames"),
        ("sample_frame", "sample_frame", "sample_frames"),
    ],
)
def test_a_misspelt_param_is_named_with_the_right_spelling(tmp_path, name, misspelt, right):
    *parents, _ = name.split(".")
    path = edited(tmp_path, (".".join([*parents, right]), ...), (name, 1))
    assert message_of(path) == f"unknown param {misspelt}; did you mean {right!r}?"


def test_an_unknown_param_unlike_any_other_gets_the_list_of_what_there_is(tmp_path):
    message = message_of(edited(tmp_path, ("sample_frames.zzz", 1)))
    assert message.startswith("unknown param sample_frames.zzz; known: clip_length_s, clip_position, geometry, ")


@pytest.mark.parametrize("name", ["dataset", "embed.clip_frames", "recipes.half_patches.seed", "report"])
def test_a_missing_param_is_named(tmp_path, name):
    assert message_of(edited(tmp_path, (name, ...))) == f"param {name} is missing; add it"


@pytest.mark.parametrize(
    ("name", "value", "shown", "mend"),
    [
        ("embed.clip_frames", "8", "'8'", "valid integer"),
        ("embed.clip_frames", 8.0, "8.0", "valid integer"),
        ("embed.clip_frames", True, "True", "valid integer"),
        ("dataset", 3, "3", "valid string"),
        ("recipes.half_patches.freeze_embeddings", "yes", "'yes'", "valid boolean"),
        ("train_aggregator.seeds", 0, "0", "valid list"),
        ("embed.clip_frames", 0, "0", "greater than or equal to 1"),
        ("sample_frames.max_skip_fraction", 1.5, "1.5", "less than or equal to 1"),
        ("recipes.half_patches.patch_keep_rate", 0.0, "0.0", "greater than 0"),
        ("recipes.half_patches.frozen_blocks", -1, "-1", "greater than or equal to 0"),
        ("recipes.half_patches.weight_decay", -0.1, "-0.1", "greater than or equal to 0"),
        ("train_aggregator.learning_rate", 0, "0", "greater than 0"),
        ("train_aggregator.learning_rate", float("inf"), "inf", "finite"),
        ("train_aggregator.weight_decay", float("nan"), "nan", "finite"),
        ("train_aggregator.seeds", [], "[]", "at least 1"),
        ("embed.span_views", 0, "0", "greater than or equal to 1"),
        ("linear_probe.shots", [1, 0], "0", "greater than or equal to 1"),
        ("sample_frames.geometry", "fit", "'fit'", "'crop' or 'squash'"),
        ("backbones.small_clip.heads", 0, "0", "greater than or equal to 1"),
        ("selections.vc1_none.objective", "R1", "'R1'", "'R1@0.5' or 'frame_AP@0.5'"),
        ("evaluate_references.num_windows", 11, "11", "less than or equal to 10"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_named_and_shown(tmp_path, name, value, shown, mend):
    message = message_of(edited(tmp_path, (name, value)))
    assert message.startswith(f"param {name}")
    assert f"is {shown}: " in message
    assert mend in message


@pytest.mark.parametrize("family", ["clip", ...])
def test_an_unknown_family_of_backbones_is_named(tmp_path, family):
    message = message_of(edited(tmp_path, ("backbones.small_clip.family", family)))
    assert message == "param backbones.small_clip.family is wrong or missing; set one of: builtin, open_clip, xclip"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("run.backbones", ["smal_clip"]), "run.backbones: unknown 'smal_clip'; did you mean 'small_clip'?"),
        (("run.finetuned", ["vit_b_32"]), "run.finetuned: unknown 'vit_b_32'; known: small_clip"),
        (("run.recipes", ["half_patch"]), "run.recipes: unknown 'half_patch'; did you mean 'half_patches'?"),
        (
            ("run.models", ["small_clip-half_patch"]),
            "run.models: unknown 'small_clip-half_patch'; did you mean 'small_clip-half_patches'?",
        ),
        (("run.corpora", ["mine", "mine"]), "run.corpora: a name stands there twice; name each once"),
        (
            ("run.post_pretrained", ["smal_clip"]),
            "run.post_pretrained: unknown 'smal_clip'; did you mean 'small_clip'?",
        ),
        (("run.post_pretraining", ["xyz"]), "run.post_pretraining: unknown 'xyz'; known: half_patches"),
        (("run.aggregators", ["xyz"]), "run.aggregators: unknown 'xyz'; known: class_token, mean, transformer_mean"),
        (("run.selections", ["vc1_nome"]), "run.selections: unknown 'vc1_nome'; did you mean 'vc1_none'?"),
        (("run.probed", ["small_cilp"]), "run.probed: unknown 'small_cilp'; did you mean 'small_clip'?"),
        (("embed.spans", False), "run.probed needs embed.spans: true"),
        (("run.assessed", ["small_cilp"]), "run.assessed: unknown 'small_cilp'; did you mean 'small_clip'?"),
        (("run.selected", ["small_cilp"]), "run.selected: unknown 'small_cilp'; did you mean 'small_clip'?"),
        (("run.shot_detectors", ["xyz"]), "run.shot_detectors: unknown 'xyz'; known: adaptive_shots, content_shots"),
        (("run.tight", ["small_clip"]), "run.tight: unknown 'small_clip'; did you mean 'small_clip-half_patches'?"),
        (
            ("run.attended", ["small_clip"]),
            "run.attended: unknown 'small_clip'; did you mean 'small_clip-half_patches'?",
        ),
        (("run.references", ["oracle", "oracle"]), "run.references: a name stands there twice; name each once"),
        (
            ("run.submissions", ["oracle"]),
            "run: two systems of moment retrieval are called 'oracle'; rename one",
        ),
        (("run.aggregators", ["mean", "mean"]), "run.aggregators: a name stands there twice; name each once"),
    ],
)
def test_run_names_only_what_exists_and_each_once(tmp_path, change, message):
    assert message_of(edited(tmp_path, change)) == message


UNTRAINED = [("run.aggregators", ["mean"]), ("run.assessed", []), ("run.selected", [])]
"""What leaves nothing to be trained or chosen on embeddings."""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("run.aggregators", RUN["aggregators"])], "run.aggregators: 'transformer_mean' needs the split train"),
        (
            [("run.aggregators", RUN["aggregators"]), ("embed.splits", ["train", "test"])],
            "run.aggregators: 'transformer_mean' needs the split validation",
        ),
        ([("run.assessed", ["small_clip"])], "run.assessed: 'small_clip' needs the split train"),
        (
            [
                ("run.assessed", ["small_clip"]),
                ("assess_backbone.split", "validation"),
                ("embed.splits", ["train", "test"]),
            ],
            "run.assessed: 'small_clip' needs the split validation",
        ),
        ([("run.selected", ["small_clip"])], "run.selections: 'vc1_none' needs the split train"),
    ],
)
def test_what_is_trained_or_chosen_on_embeddings_needs_its_splits(tmp_path, changes, message):
    changes = [("embed.splits", ["test"]), *UNTRAINED, *changes]
    assert message_of(edited(tmp_path, *changes)) == f"{message}; add it to embed.splits"
    load_params(edited(tmp_path, *changes, ("embed.splits", ["train", "validation", "test"])))


def test_the_test_split_alone_is_enough_where_nothing_is_trained_on_embeddings(tmp_path):
    load_params(edited(tmp_path, ("embed.splits", ["test"]), *UNTRAINED))
    of_test = [("run.assessed", ["small_clip"]), ("assess_backbone.split", "test")]
    load_params(edited(tmp_path, ("embed.splits", ["test"]), *UNTRAINED, *of_test))


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["train", "validation"], "splits must hold test, which is what is evaluated"),
        (["test", "train", "test"], "splits names a split twice; name each once"),
        ([], "splits must hold test, which is what is evaluated"),
    ],
)
def test_splits_are_named_once_and_test_is_among_them(tmp_path, splits, message):
    assert message in message_of(edited(tmp_path, ("embed.splits", splits)))


POST_PRETRAINING = [
    ("run.expanded", ["small_clip"]),
    ("run.expansions", ["stan"]),
    ("run.corpora", ["narrated", "mine"]),
    ("run.post_pretrained", ["small_clip", "small_clip_stan"]),
    ("run.post_pretraining", ["half_patches"]),
]


def test_what_is_post_pretrained_is_a_backbone_again(tmp_path):
    names = ["small_clip_mine_half_patches", "small_clip_stan_narrated_half_patches"]
    models = [*names, f"{names[1]}-half_patches"]
    changes = [("run.finetuned", names[1:]), ("run.models", models)]
    changes += [("run.probed", []), ("run.assessed", [names[0]]), ("run.selected", [names[0]])]
    path = edited(tmp_path, *POST_PRETRAINING, ("run.embedded", names), *changes)
    assert load_params(path).run.embedded == names
    path = edited(tmp_path, *POST_PRETRAINING, ("run.embedded", ["small_clip_mine_half_patch"]), *changes)
    assert message_of(path) == (
        "run.embedded: unknown 'small_clip_mine_half_patch'; did you mean 'small_clip_mine_half_patches'?"
    )


def test_a_corpus_is_another_dataset_than_the_active_one(tmp_path):
    assert message_of(edited(tmp_path, ("run.corpora", ["narrated", "toy"]))) == (
        "run.corpora: 'toy' is the active dataset, and two stages would write its folders; "
        "take it out, or set another dataset"
    )


@pytest.mark.parametrize("left_out", ["run.corpora", "run.post_pretrained", "run.post_pretraining"])
def test_post_pretraining_wants_all_of_its_lists(tmp_path, left_out):
    assert message_of(edited(tmp_path, *POST_PRETRAINING, (left_out, []))) == (
        "run: corpora, post_pretrained and post_pretraining need one another; set all or none"
    )


EXPANDED = [
    ("run.expanded", ["small_clip"]),
    ("run.expansions", ["xclip", "stan", "seq_transf"]),
    ("run.embedded", ["small_clip", "small_clip_xclip", "small_clip_stan", "small_clip_seq_transf"]),
    ("run.finetuned", ["small_clip_stan"]),
    ("run.models", []),
    ("run.probed", []),
    ("run.assessed", []),
    ("run.selected", []),
    ("embed.single_frames", False),
]


@pytest.mark.parametrize("param", ["run.assessed", "run.selected"])
@pytest.mark.parametrize(
    "model", ["small_clip_xclip", "small_clip_stan", "small_clip_stan-half_patches", "small_clip_seq_transf"]
)
def test_a_video_model_finds_moments_with_single_frames_alone(tmp_path, param, model):
    changes = [*EXPANDED, (param, ["small_clip", model])]
    message = message_of(edited(tmp_path, *changes))
    assert message.startswith(f"{param}: {model!r} is a video model")
    assert message.endswith("embed.single_frames: true alone; set that, or take the model out")
    load_params(edited(tmp_path, *changes, ("embed.single_frames", True)))


def test_image_models_and_what_is_post_pretrained_of_them_find_moments_without_single_frames(tmp_path):
    post_pretrained = "small_clip_mine_half_patches"
    models = [post_pretrained, f"{post_pretrained}-half_patches"]
    changes = [
        *POST_PRETRAINING,
        ("run.embedded", ["small_clip", post_pretrained]),
        ("run.finetuned", [post_pretrained]),
        ("run.models", []),
        ("run.probed", []),
        ("run.assessed", models),
        ("run.selected", models),
        ("embed.single_frames", False),
    ]
    assert load_params(edited(tmp_path, *changes)).run.selected == models


def test_two_backbones_of_one_name_are_refused(tmp_path):
    name = "small_clip_mine_half_patches"
    block = {"family": "xclip", "checkpoint": "x", "revision": "main", "max_tokens": 72}
    changes = [(f"backbones.{name}", block), ("run.backbones", ["small_clip", name])]
    message = message_of(edited(tmp_path, *POST_PRETRAINING, *changes))
    assert message == f"run: two backbones are called {name!r}; rename one"


def test_a_name_that_can_be_no_part_of_a_path_is_refused(tmp_path):
    path = edited(tmp_path, ("aggregators.a/b", {"kind": "mean", "heads": 8, "mlp_ratio": 4.0}))
    assert message_of(path).startswith("param aggregators.a/b")


@pytest.mark.parametrize(
    ("changes", "name", "mend"),
    [
        (
            [("embed.clip_frames", 17)],
            "embed.clip_counts",
            "is 136 frames; sample_frames.num_uniform must be that many",
        ),
        ([("embed.clip_counts", [2, 1])], "embed", "clip_counts must rise, without a number twice; sort them"),
        ([("embed.class_template", "a video")], "embed: class_template", "must hold {} once"),
        ([("download.generated.toy.max_duration", 10.0)], "download.generated.toy: max_duration", "swap them"),
        ([("download.generated.toy.size_px", 63)], "download.generated.toy: size_px", "must be even"),
        ([("download.folder.test_fraction", 0.9)], "download.folder: validation_fraction", "add up to more than 1"),
        (
            [("recipes.half_patches.freeze_embeddings", False), ("recipes.half_patches.frozen_blocks", 1)],
            "recipes.half_patches: frozen_blocks",
            "needs freeze_embeddings: true",
        ),
        ([("backbones.small_clip.heads", 3)], "backbones.small_clip: heads", "must divide width"),
        ([("backbones.small_clip.patch_size_px", 12)], "backbones.small_clip: patch_size_px", "must divide"),
        (
            [("run.aligned", ["small_clip"]), ("run.alignments", ["mug"])],
            "run.alignments",
            "needs embed.tokens: true",
        ),
        (
            [("run.tight", ["small_clip-half_patches"])],
            "run.tight: 'small_clip-half_patches'",
            "fine-tuned by a recipe for retrieval; take it out",
        ),
        (
            [*TIGHT, ("recipes.half_patches.captions", "class_names")],
            "run.tight: 'small_clip_tight_transf-half_patches'",
            "fine-tuned by a recipe for retrieval; take it out",
        ),
        ([*TIGHT, ("embed.tokens", False)], "run.tight", "needs embed.tokens: true"),
        (
            [("alignments.mean", ALIGNMENT), ("run.alignments", ["mean"])],
            "run: two ways of scoring retrieval are called 'mean'",
            "rename one",
        ),
        (
            [("alignments.tight_transformer", ALIGNMENT), ("run.alignments", ["tight_transformer"])],
            "run: two ways of scoring retrieval are called 'tight_transformer'",
            "rename one",
        ),
        ([("expansions.stan.context_frames", 65)], "expansions.stan: context_frames", "at most max_frames, 64"),
        (
            [("expansions.stan_frame_class.temporal", "joint")],
            "expansions.stan_frame_class: class_token",
            "must be clip with temporal: joint",
        ),
        (
            [("architectures.vit_b_32_stan_12f.num_frames", 65)],
            "architectures.vit_b_32_stan_12f: num_frames",
            "at most max_frames, 64",
        ),
        (
            [("architectures.vit_b_32_12f.family", "vit")],
            "param architectures.vit_b_32_12f.family",
            "set one of: xclip, clip, stan",
        ),
        (
            [("recipes.half_patches.captions", "class_names"), ("recipes.half_patches.similarity", "mug")],
            "recipes.half_patches: captions: class_names",
            "needs similarity: cosine; set it, or other captions",
        ),
        ([("linear_probe.min_c", 2000.0)], "linear_probe: max_c", "swap them"),
    ],
)
def test_params_that_contradict_each_other_are_named_with_the_mend(tmp_path, changes, name, mend):
    message = message_of(edited(tmp_path, *changes))
    assert message.startswith(name)
    assert mend in message


def test_a_tight_transformer_that_a_recipe_has_trained_scores_retrieval(tmp_path):
    assert load_params(edited(tmp_path, *TIGHT)).run.tight == ["small_clip_tight_transf-half_patches"]


def test_a_param_written_twice_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("dataset: toy\ndataset: mine\n", encoding="utf-8")
    message = message_of(path)
    assert message.startswith("not YAML")
    assert 'duplicate key "dataset"' in message
    assert "line 2" in message


@pytest.mark.parametrize("text", ["dataset: [toy\n", "a: b: c\n", "\tdataset: toy\n"])
def test_what_is_not_yaml_is_refused_with_its_line(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    message = message_of(path)
    assert message.startswith("not YAML")
    assert "line" in message


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(b"dataset: caf\xe9\n")
    assert message_of(path) == "not UTF-8 (invalid continuation byte at byte 12); save it as UTF-8"


@pytest.mark.parametrize("text", ["", "toy\n", "- toy\n"])
def test_a_file_without_params_is_refused(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    assert message_of(path).startswith("param at the top level is ")


def test_a_missing_file_is_named_with_where_to_stand(tmp_path):
    assert message_of(tmp_path / "params.yaml") == "no such file; run this from the root of the repository"
