import copy
from pathlib import Path

import pytest
import ruamel.yaml

from stillmotion.config.loading import load_params, validate_params
from stillmotion.config.models import BuiltinBackboneParams, OpenClipBackboneParams, XClipBackboneParams
from stillmotion.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = REPOSITORY / "params.yaml"
WRITTEN = ruamel.yaml.YAML(typ="safe", pure=True).load(FILE)
RUN = {
    "backbones": ["small_clip"],
    "corpora": [],
    "embedded": ["small_clip", "small_clip-patch_dropout"],
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
STAN_BRANCH = {
    "num_layers": 4,
    "skipped_layers": 0,
    "interval": 1,
    "structure": "branch",
    "temporal": "self_attention",
    "inter_proj": "linear",
    "class_token": "clip",
    "class_token_mean": "after_attention",
    "max_frames": 64,
    "context_frames": 8,
    "drop_path": 0.1,
    "seed": 0,
}
XCLIP = {"num_frames": 8, "integration_layers": 1, "prompt_layers": 2, "max_tokens": 72, "seed": 0}
INTERACTION = {"kind": "interaction", "interaction": "mutual", "tau": 1.0, "top_k": 1, "dual_softmax": False}
BLOCKS = {
    "run": RUN,
    "expanded": {},
    "post_pretrained": {},
    "finetuned": {"small_clip-patch_dropout": {"from": "small_clip", "recipe": "patch_dropout", "seed": 0}},
    "retrieval": {"small_clip-mean": {"model": "small_clip", "scorer": "mean"}},
    "expansions": {
        "xclip": {"family": "xclip", **XCLIP},
        "stan": {"family": "stan", **STAN_BRANCH},
        "lstm": {"family": "clip4clip", "head": "seq_lstm", "num_layers": 0, "seed": 0},
        "tight": {"family": "clip4clip", "head": "tight_transformer", "num_layers": 2, "seed": 0},
    },
    "scorers": {
        "mean": {"kind": "mean"},
        "transformer_mean": {"kind": "transformer_mean", "heads": 8, "mlp_ratio": 4.0},
        "class_token": {"kind": "class_token", "heads": 8, "mlp_ratio": 4.0},
        "mug": INTERACTION,
        "conditional": {"kind": "conditional", "top_k": 20},
        "own": {"kind": "own"},
    },
    "shot_detectors": {
        "content_shots": {"detector": "content", "threshold": 27.0, "min_shot_s": 0.6},
        "adaptive_shots": {"detector": "adaptive", "threshold": 3.0, "min_shot_s": 0.6},
    },
    "architectures": {
        "clip_12f": {"family": "clip", "architecture": "ViT-B-32", "num_frames": 12},
        "stan_12f": {"family": "stan", "architecture": "ViT-B-32", "num_frames": 12, **STAN_BRANCH},
    },
}
"""What is choice and not truth in params.yaml, so that other choices there change nothing here."""
EXPANDED = [
    ("expanded.small_clip-xclip", {"from": "small_clip", "expansion": "xclip"}),
    ("expanded.small_clip-stan", {"from": "small_clip", "expansion": "stan"}),
    ("expanded.small_clip-lstm", {"from": "small_clip", "expansion": "lstm"}),
    ("finetuned.of_stan", {"from": "small_clip-stan", "recipe": "patch_dropout", "seed": 0}),
]
POST_PRETRAINED = [
    ("run.corpora", ["narrated", "mine"]),
    ("post_pretrained.clip-mine", {"from": "small_clip", "dataset": "mine", "recipe": "patch_dropout", "seed": 2}),
    ("finetuned.of_mine", {"from": "clip-mine", "recipe": "patch_dropout", "seed": 1}),
]
TIGHT = [
    ("expanded.small_clip-tight", {"from": "small_clip", "expansion": "tight"}),
    ("finetuned.trained-tight", {"from": "small_clip-tight", "recipe": "patch_dropout", "seed": 0}),
    ("run.embedded", ["small_clip", "small_clip-tight", "trained-tight"]),
    ("retrieval.own", {"model": "trained-tight", "scorer": "own"}),
    ("embed.tokens", True),
]
"""What scores retrieval by a tight transformer."""


def edited(*changes):
    """params.yaml with the blocks above and values set by dotted name, `...` for taking one out."""
    data = copy.deepcopy(WRITTEN | BLOCKS)
    for name, value in changes:
        *parents, last = name.split(".")
        block = data
        for parent in parents:
            block = block[parent]
        if value is ...:
            del block[last]
        else:
            block[last] = copy.deepcopy(value)
    return data


def named(section, name, block):
    """params.yaml with a block in a section, or a name in a list, that may have dots or be no text."""
    data = copy.deepcopy(WRITTEN | BLOCKS)
    found = data
    for part in section.split("."):
        found = found[part]
    if isinstance(found, list):
        found.append(name)
    else:
        found[name] = copy.deepcopy(block)
    return data


def load(data):
    return validate_params(data, "params.yaml")


def message_of(source):
    """What is said of a file, or of what would be read from one."""
    with pytest.raises(InputError) as caught:
        load_params(source) if isinstance(source, Path) else load(source)
    message = str(caught.value)
    assert "\n" not in message
    prefix = f"{source if isinstance(source, Path) else 'params.yaml'}: "
    assert message.startswith(prefix)
    return message.removeprefix(prefix)


def test_the_params_of_the_repository_load():
    params = load_params(FILE)
    assert params.dataset == WRITTEN["dataset"]
    assert params.model_dump(by_alias=True, exclude={"run": {"experiment"}}) == WRITTEN
    assert params.run.experiment is None
    families = {"builtin": BuiltinBackboneParams, "open_clip": OpenClipBackboneParams, "xclip": XClipBackboneParams}
    assert all(type(block) is families[block.family] for block in params.backbones.values())


def test_params_are_frozen():
    params = load_params(FILE)
    with pytest.raises(ValueError, match="frozen"):
        params.embed.clip_frames = 4


def test_an_exponent_without_a_point_is_a_number_as_in_yaml_1_2(tmp_path):
    text = FILE.read_text(encoding="utf-8")
    assert text.count("learning_rate: 1.5e-3") == 1
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("learning_rate: 1.5e-3", "learning_rate: 1e-4"), encoding="utf-8")
    assert load_params(path).backbones["small_clip"].learning_rate == 0.0001


def test_a_whole_number_stands_for_a_float():
    rate = load(edited(("train_aggregator.learning_rate", 1))).train_aggregator.learning_rate
    assert rate == 1


@pytest.mark.parametrize(
    ("name", "misspelt", "right"),
    [
        ("embed.clip_frams", "embed.clip_frams", "clip_frames"),
        ("recipes.patch_dropout.learing_rate", "recipes.patch_dropout.learing_rate", "learning_rate"),
        ("backbones.small_clip.warmup_fracton", "backbones.small_clip.warmup_fracton", "warmup_fraction"),
        ("download.generated.toy.num_trian", "download.generated.toy.num_trian", "num_train"),
        ("expansions.stan.num_layer", "expansions.stan.num_layer", "num_layers"),
        ("expansions.lstm.haed", "expansions.lstm.haed", "head"),
        ("architectures.clip_12f.num_frame", "architectures.clip_12f.num_frame", "num_frames"),
        ("scorers.mug.top_ks", "scorers.mug.top_ks", "top_k"),
        ("finetuned.small_clip-patch_dropout.form", "finetuned.small_clip-patch_dropout.form", "from"),
        ("retrieval.small_clip-mean.scorers", "retrieval.small_clip-mean.scorers", "scorer"),
        ("sample_frame", "sample_frame", "sample_frames"),
    ],
)
def test_a_misspelt_param_is_named_with_the_right_spelling(name, misspelt, right):
    *parents, _ = name.split(".")
    path = edited((".".join([*parents, right]), ...), (name, 1))
    assert message_of(path) == f"unknown param {misspelt}; did you mean {right!r}?"


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (
            {"rank": 4, "alpha": 8.0, "dropout": 0.0, "target": ["q_proj"]},
            "unknown param {}.target; did you mean 'targets'?",
        ),
        ({"rank": 4, "alpha": 8.0, "dropout": 0.0}, "param {}.targets is missing; add it"),
        ({"rank": 0, "alpha": 8.0, "dropout": 0.0, "targets": ["a"]}, "param {}.rank is 0: "),
        (4, "param {} is 4: it must be a section, of lines `name: value`"),
    ],
)
def test_the_block_of_an_adapter_is_checked_like_any_other(lora, message):
    found = message_of(edited(("recipes.patch_dropout.lora", lora)))
    assert found.startswith(message.format("recipes.patch_dropout.lora"))


def test_an_unknown_param_unlike_any_other_gets_the_list_of_what_there_is():
    message = message_of(edited(("sample_frames.zzz", 1)))
    assert message.startswith("unknown param sample_frames.zzz; known: clip_length_s, clip_position, format, ")


@pytest.mark.parametrize(
    "name",
    [
        "dataset",
        "embed.clip_frames",
        "recipes.patch_dropout.tau",
        "scorers.mug.tau",
        "finetuned.small_clip-patch_dropout.from",
        "finetuned.small_clip-patch_dropout.seed",
        "retrieval.small_clip-mean.model",
        "report",
    ],
)
def test_a_missing_param_is_named(name):
    assert message_of(edited((name, ...))) == f"param {name} is missing; add it"


@pytest.mark.parametrize(
    ("name", "value", "shown", "mend"),
    [
        ("embed.clip_frames", "8", "'8'", "valid integer"),
        ("embed.clip_frames", 8.0, "8.0", "valid integer"),
        ("embed.clip_frames", True, "True", "valid integer"),
        ("embed.class_template", 3, "3", "valid string"),
        ("finetuned.small_clip-patch_dropout.seed", -1, "-1", "greater than or equal to 0"),
        ("finetuned.small_clip-patch_dropout", None, "empty", "must be a section"),
        ("scorers.mug.interaction", "mutal", "'mutal'", "'mutual', 'mutual_cosine', 'simple'"),
        ("scorers.class_token.heads", 0, "0", "greater than or equal to 1"),
        ("recipes.patch_dropout.freeze_embeddings", "yes", "'yes'", "valid boolean"),
        ("train_aggregator.seeds", 0, "0", "must be a list"),
        ("embed.clip_frames", 0, "0", "greater than or equal to 1"),
        ("sample_frames.max_skip_fraction", 1.5, "1.5", "less than or equal to 1"),
        ("recipes.patch_dropout.patch_keep_rate", 0.0, "0.0", "greater than 0"),
        ("recipes.patch_dropout.frozen_blocks", -1, "-1", "greater than or equal to 0"),
        ("recipes.patch_dropout.weight_decay", -0.1, "-0.1", "greater than or equal to 0"),
        ("train_aggregator.learning_rate", 0, "0", "greater than 0"),
        ("train_aggregator.learning_rate", float("inf"), "inf", "finite"),
        ("train_aggregator.weight_decay", float("nan"), "nan", "finite"),
        ("train_aggregator.seeds", [], "[]", "at least 1"),
        ("train_aggregator.batch_size", 1, "1", "greater than or equal to 2"),
        ("embed.span_views", 0, "0", "greater than or equal to 1"),
        ("linear_probe.shots", [1, 0], "0", "greater than or equal to 1"),
        ("sample_frames.geometry", "fit", "'fit'", "'crop' or 'squash'"),
        ("backbones.small_clip.heads", 0, "0", "greater than or equal to 1"),
        ("selections.vc1_none.objective", "R1", "'R1'", "'R1@0.5' or 'frame_AP@0.5'"),
        ("evaluate_references.num_windows", 11, "11", "less than or equal to 10"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_named_and_shown(name, value, shown, mend):
    message = message_of(edited((name, value)))
    assert message.startswith(f"param {name}")
    assert f"is {shown}: " in message
    assert mend in message


@pytest.mark.parametrize("found", ["mug", "clip", ...])
@pytest.mark.parametrize(
    ("param", "some"),
    [
        ("backbones.small_clip.family", {"builtin", "open_clip", "xclip", "video_llm"}),
        ("scorers.mean.kind", {"mean", "transformer_mean", "interaction", "hidden_states", "mlp_head"}),
    ],
)
def test_an_unknown_kind_is_named_with_those_that_there_are(param, some, found):
    """Not with these alone: a new one is no reason to come here."""
    told, known = message_of(edited((param, found))).split("; set one of: ")
    assert told == f"param {param} is wrong or missing"
    assert some <= set(known.split(", "))


@pytest.mark.parametrize("temperature", [0.01, 0.05, 1.0, "learned"])
def test_scores_are_divided_by_a_temperature_that_is_given_or_learned(temperature):
    params = load(edited(("recipes.patch_dropout.loss_temperature", temperature)))
    assert params.recipes["patch_dropout"].loss_temperature == temperature


@pytest.mark.parametrize("temperature", [0.0, 0.009, "learnt", None])
def test_another_temperature_is_refused(temperature):
    message = message_of(edited(("recipes.patch_dropout.loss_temperature", temperature)))
    assert message.startswith("param recipes.patch_dropout.loss_temperature")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("run.backbones", ["smal_clip"]), "run.backbones: unknown 'smal_clip'; did you mean 'small_clip'?"),
        (("run.embedded", ["vit_b_32"]), "run.embedded: 'vit_b_32' is not in run.backbones; add it there"),
        (
            ("run.embedded", ["small_clip-patch_dropot"]),
            "run.embedded: unknown 'small_clip-patch_dropot'; did you mean 'small_clip-patch_dropout'?",
        ),
        (("run.corpora", ["mine", "mine"]), "run.corpora: a name stands there twice; name each once"),
        (("run.selections", ["vc1_non"]), "run.selections: unknown 'vc1_non'; did you mean 'vc1_none'?"),
        (("run.probed", ["small_cilp"]), "run.probed: unknown 'small_cilp'; did you mean 'small_clip'?"),
        (("embed.spans", False), "run.probed needs embed.spans: true"),
        (("run.assessed", ["small_cilp"]), "run.assessed: unknown 'small_cilp'; did you mean 'small_clip'?"),
        (("run.selected", ["small_cilp"]), "run.selected: unknown 'small_cilp'; did you mean 'small_clip'?"),
        (
            ("run.embedded", ["small_clip-patch_dropout"]),
            "run.probed: 'small_clip' is not in run.embedded; add it there",
        ),
        (("run.shot_detectors", ["xyz"]), "run.shot_detectors: unknown 'xyz'; known: adaptive_shots, content_shots"),
        (("run.architectures", ["xyz"]), "run.architectures: unknown 'xyz'; known: clip_12f, stan_12f"),
        (
            ("run.attended", ["small_clip"]),
            "run.attended: unknown 'small_clip'; known: small_clip-patch_dropout",
        ),
        (("run.references", ["oracle", "oracle"]), "run.references: a name stands there twice; name each once"),
        (
            ("run.submissions", ["oracle"]),
            "run: two systems of moment retrieval are called 'oracle'; rename one",
        ),
        (
            ("run.submissions", ["small_clip-vc1_none"]),
            "run: two systems of moment retrieval are called 'small_clip-vc1_none'; rename one",
        ),
    ],
)
def test_run_names_only_what_exists_and_each_once(change, message):
    assert message_of(edited(change)) == message


RECORD = {"from": "small_clip", "recipe": "patch_dropout", "seed": 0}
OTHER = "small_clip-patch_dropout"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            [("finetuned.a", RECORD | {"from": "smal_clip"})],
            "finetuned.a.from: unknown 'smal_clip'; did you mean 'small_clip'?",
        ),
        (
            [("finetuned.a", RECORD | {"from": "vit_b_32"})],
            "finetuned.a.from: 'vit_b_32' is not in run.backbones; add it there",
        ),
        (
            [("finetuned.a", RECORD | {"recipe": "patch_dropot"})],
            "finetuned.a.recipe: unknown 'patch_dropot'; did you mean 'patch_dropout'?",
        ),
        (
            [("expanded.a", {"from": "xyz", "expansion": "stan"})],
            f"expanded.a.from: unknown 'xyz'; known: a, small_clip, {OTHER}",
        ),
        (
            [("expanded.a", {"from": "small_clip", "expansion": "stn"})],
            "expanded.a.expansion: unknown 'stn'; did you mean 'stan'?",
        ),
        (
            [("post_pretrained.a", RECORD | {"dataset": "mine"})],
            "post_pretrained.a.dataset: unknown 'mine'; known: none, or add it to run.corpora",
        ),
        (
            [("run.corpora", ["mine"]), ("post_pretrained.a", RECORD | {"dataset": "mime"})],
            "post_pretrained.a.dataset: unknown 'mime'; did you mean 'mine'?, or add it to run.corpora",
        ),
        (
            [("run.corpora", ["mine"]), ("post_pretrained.a", RECORD | {"dataset": "mine", "recipe": "xyz"})],
            "post_pretrained.a.recipe: unknown 'xyz'; known: patch_dropout",
        ),
        (
            [("retrieval.a", {"model": "small_cilp", "scorer": "mean"})],
            "retrieval.a.model: unknown 'small_cilp'; did you mean 'small_clip'?",
        ),
        (
            [("run.embedded", ["small_clip"]), ("retrieval.a", {"model": OTHER, "scorer": "mean"})],
            f"retrieval.a.model: {OTHER!r} is not in run.embedded; add it there",
        ),
        (
            [("retrieval.a", {"model": "small_clip", "scorer": "maen"})],
            "retrieval.a.scorer: unknown 'maen'; did you mean 'mean'?",
        ),
        (
            [("finetuned.a", RECORD | {"from": "a"})],
            "finetuned.a.from: a model is made of itself (a from a); set another model",
        ),
        (
            [
                ("expanded.a", {"from": "b", "expansion": "stan"}),
                ("finetuned.b", RECORD | {"from": "c"}),
                ("finetuned.c", RECORD | {"from": "a"}),
            ],
            "expanded.a.from: a model is made of itself (a from b from c from a); set another model",
        ),
        ([("finetuned.small_clip", RECORD)], "two models are called 'small_clip'; rename one"),
        (
            [(f"expanded.{OTHER}", {"from": "small_clip", "expansion": "stan"})],
            f"two models are called {OTHER!r}; rename one",
        ),
        (
            [("retrieval.a", {"model": "small_clip", "scorer": "mug"})],
            "retrieval.a: scorer 'mug' needs embed.tokens: true",
        ),
        (
            [("retrieval.a", {"model": "small_clip", "scorer": "conditional"})],
            "retrieval.a: scorer 'conditional' needs embed.contexts: true",
        ),
        ([*TIGHT, ("embed.tokens", False)], "retrieval.own: scorer 'own' needs embed.tokens: true"),
    ],
)
def test_records_name_only_what_exists(changes, message):
    assert message_of(edited(*changes)) == message


@pytest.mark.parametrize("section", ["expanded", "post_pretrained", "finetuned", "retrieval"])
def test_a_dot_in_the_name_of_a_record_is_refused_as_dvc_splits_there(section):
    path = named(section, "small.clip", block_of(section))
    assert message_of(path) == (
        f"{section}: the name 'small.clip' has a dot in it, at which dvc splits params; use - or _"
    )


def block_of(section):
    """A block or record that the section takes, but for its name."""
    records = {
        "expanded": {"from": "small_clip", "expansion": "stan"},
        "post_pretrained": RECORD | {"dataset": "mine"},
        "finetuned": RECORD,
        "retrieval": {"model": "small_clip", "scorer": "mean"},
    }
    if section in records:
        return records[section]
    block = WRITTEN | BLOCKS
    for part in section.split("."):
        block = block[part]
    return next(iter(block.values())) if isinstance(block, dict) else None


NO_NAMES = [
    "..",
    ".",
    ".x",
    "../sources/mine",
    "../../x",
    "/x",
    "a/b",
    "a\\b",
    "a b",
    "a; cmd",
    "a&b",
    "-x",
    "_x",
    "$(id)",
    "`id`",
    "${dataset}",
    'a"b',
    "",
    "x" * 201,
    "x" * 101,
    "caf\u00e9",
    "\u0662",
    "toy\n",
    "a\nb",
]
NAMED = {
    "expanded": "-",
    "post_pretrained": "-",
    "finetuned": "-",
    "retrieval": "-",
    "run.corpora": "-",
    "run.submissions": "-",
    "run.embedded": "-",
    "backbones": "_",
    "expansions": "_",
    "recipes": "_",
    "scorers": "_",
    "selections": "_",
    "shot_detectors": "_",
    "architectures": "_",
    "download.generated": "_",
    "run.backbones": "_",
    "run.selections": "_",
}
"""Where names stand, and whether they may have - and . or just _."""


@pytest.mark.parametrize("section", NAMED)
@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_a_name_that_can_be_no_part_of_a_path_is_refused_in_one_line(section, name):
    message = message_of(named(section, name, block_of(section)))
    shown = name if len(name) <= 100 else "x" * 20 + "…"
    besides = {"-": ", -, _ and .", "_": " and _"}[NAMED[section]]
    assert message.startswith(f"{section}")
    assert message.endswith(
        f": {shown!r} can't be a name, as it stands in paths and commands; take letters, digits{besides}, at most 100 "
        "of them, and begin with a letter or digit"
    )


@pytest.mark.parametrize("section", [name for name, marks in NAMED.items() if marks == "_"])
@pytest.mark.parametrize("name", ["a-b", "a.b"])
def test_a_block_that_dvc_looks_up_has_a_name_without_dashes_and_dots(section, name):
    message = message_of(named(section, name, block_of(section)))
    assert f"{name!r} can't be a name" in message
    assert "take letters, digits and _, " in message


@pytest.mark.parametrize("section", NAMED)
@pytest.mark.parametrize("name", ["2024", "0", "1_000", "0x1F", "1e5"])
def test_a_number_is_no_name_even_in_quotes(section, name):
    message = message_of(named(section, name, block_of(section)))
    assert message.startswith(section)
    assert message.endswith(f"{name!r} is a number, which YAML does not read as a name; put a letter into it")


@pytest.mark.parametrize("section", NAMED)
@pytest.mark.parametrize(("name", "kind"), [(2024, "a number"), (1.5, "a number"), (True, "a truth value")])
def test_what_yaml_does_not_read_as_text_is_no_name(section, name, kind):
    message = message_of(named(section, name, block_of(section)))
    assert message.startswith(section)
    assert message.endswith(f": {name!r} is {kind} to YAML and no name; put another letter into it")


@pytest.mark.parametrize("name", [*NO_NAMES, "2024", 2024, 1.5, None, ["toy"]], ids=ascii)
def test_a_dataset_that_is_no_name_is_refused_with_the_param_and_the_mend(name):
    message = message_of(edited(("dataset", name)))
    assert message.startswith("dataset: ")
    assert "; take letters, digits, -, _ and ., " in message or "letter into it" in message


@pytest.mark.parametrize("param", ["from", "recipe"])
@pytest.mark.parametrize("name", ["../small_clip", "", "a\n"])
def test_what_a_record_names_is_refused_as_names_are(param, name):
    message = message_of(edited(("finetuned.a", RECORD | {param: name})))
    assert message.startswith(f"finetuned.a.{param}: {name!r} can't be a name")


@pytest.mark.parametrize("name", ["toy", "MSR-VTT", "v1.2", "2024a", "a" * 100, "x", "3-x", "true"])
def test_letters_digits_dashes_and_dots_make_the_name_of_a_dataset(name):
    assert load(edited(("dataset", name))).dataset == name


def test_a_key_with_a_line_break_is_told_in_one_line():
    assert message_of(named("embed", "a\nb", 1)).startswith("unknown param embed.'a\\nb'; known: ")


TRAINED = {"model": "small_clip", "scorer": "transformer_mean"}
UNTRAINED = [("run.assessed", []), ("run.selected", [])]
"""What leaves nothing to be trained or chosen on embeddings."""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("retrieval.a", TRAINED)], "retrieval: 'a' needs the split train"),
        (
            [("retrieval.a", TRAINED), ("embed.splits", ["train", "test"])],
            "retrieval: 'a' needs the split validation",
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
def test_what_is_trained_or_chosen_on_embeddings_needs_its_splits(changes, message):
    changes = [("embed.splits", ["test"]), *UNTRAINED, *changes]
    assert message_of(edited(*changes)) == f"{message}; add it to embed.splits"
    load(edited(*changes, ("embed.splits", ["train", "validation", "test"])))


def test_the_test_split_alone_is_enough_where_nothing_is_trained_on_embeddings():
    load(edited(("embed.splits", ["test"]), *UNTRAINED))
    of_test = [("run.assessed", ["small_clip"]), ("assess_backbone.split", "test")]
    load(edited(("embed.splits", ["test"]), *UNTRAINED, *of_test))


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["train", "validation"], "splits must hold test, which is what is evaluated"),
        (["test", "train", "test"], "splits names a split twice; name each once"),
        ([], "splits must hold test, which is what is evaluated"),
    ],
)
def test_splits_are_named_once_and_test_is_among_them(splits, message):
    assert message in message_of(edited(("embed.splits", splits)))


def test_what_is_post_pretrained_is_fine_tuned_as_a_backbone_is():
    names = ["clip-mine", "of_mine"]
    changes = [("run.embedded", names), ("run.probed", []), ("run.assessed", names[:1]), ("run.selected", [])]
    params = load(edited(*POST_PRETRAINED, *changes, ("retrieval", {})))
    assert params.run.embedded == names
    assert params.post_pretrained["clip-mine"].model_dump(by_alias=True) == {
        "from": "small_clip",
        "dataset": "mine",
        "recipe": "patch_dropout",
        "seed": 2,
    }
    assert set(params.made) == {"clip-mine", "of_mine", "small_clip-patch_dropout"}


def test_a_model_that_was_fine_tuned_is_fine_tuned_again():
    params = load(edited(("finetuned.again", RECORD | {"from": "small_clip-patch_dropout"})))
    assert params.made["again"].base_model == "small_clip-patch_dropout"


def test_a_corpus_is_another_dataset_than_the_active_one():
    assert message_of(edited(("run.corpora", ["narrated", "toy"]))) == (
        "run.corpora: 'toy' is the active dataset, and two stages would write its folders; "
        "take it out, or set another dataset"
    )


ALONE = [("run.probed", []), ("run.assessed", []), ("run.selected", []), ("embed.single_frames", False)]


@pytest.mark.parametrize("param", ["run.assessed", "run.selected"])
@pytest.mark.parametrize("model", ["small_clip-xclip", "small_clip-stan", "of_stan", "small_clip-lstm"])
def test_a_video_model_finds_moments_with_single_frames_alone(param, model):
    models = ["small_clip", model]
    changes = [*EXPANDED, *ALONE, ("run.embedded", models), (param, models)]
    message = message_of(edited(*changes))
    assert message.startswith(f"{param}: {model!r} is a video model")
    assert message.endswith("embed.single_frames: true alone; set that, or take the model out")
    load(edited(*changes, ("embed.single_frames", True)))


def test_an_xclip_is_a_video_model_itself():
    block = {"family": "xclip", "checkpoint": "x", "revision": "main", "max_tokens": 72}
    changes = [("backbones.x", block), ("run.backbones", ["small_clip", "x"]), ("run.embedded", ["small_clip", "x"])]
    message = message_of(edited(*changes, *ALONE, ("run.selected", ["x"])))
    assert message.startswith("run.selected: 'x' is a video model")


def test_image_models_and_what_is_made_of_them_find_moments_without_single_frames():
    models = ["small_clip", "clip-mine", "of_mine"]
    changes = [("run.embedded", models), ("run.assessed", models), ("run.selected", models)]
    assert load(edited(*POST_PRETRAINED, *ALONE, *changes)).run.selected == models


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
            [("recipes.patch_dropout.freeze_embeddings", False), ("recipes.patch_dropout.frozen_blocks", 1)],
            "recipes.patch_dropout: frozen_blocks",
            "needs freeze_embeddings: true",
        ),
        ([("backbones.small_clip.heads", 3)], "backbones.small_clip: heads", "must divide width"),
        ([("backbones.small_clip.patch_size_px", 12)], "backbones.small_clip: patch_size_px", "must divide"),
        (
            [*TIGHT, ("retrieval.own.model", "small_clip")],
            "retrieval.own: 'small_clip' is no CLIP4Clip with head: tight_transformer",
            "fine-tuned by a recipe for retrieval; score it by another scorer",
        ),
        (
            [*TIGHT, ("retrieval.own.model", "small_clip-tight")],
            "retrieval.own: 'small_clip-tight' is no CLIP4Clip with head: tight_transformer",
            "fine-tuned by a recipe for retrieval; score it by another scorer",
        ),
        (
            [*TIGHT, ("expansions.tight", BLOCKS["expansions"]["lstm"])],
            "retrieval.own: 'trained-tight' is no CLIP4Clip with head: tight_transformer",
            "fine-tuned by a recipe for retrieval; score it by another scorer",
        ),
        (
            [*TIGHT, ("recipes.patch_dropout.captions", "class_names")],
            "retrieval.own: 'trained-tight' is no CLIP4Clip",
            "fine-tuned by a recipe for retrieval; score it by another scorer",
        ),
        ([("expansions.stan.context_frames", 65)], "expansions.stan: context_frames", "at most max_frames, 64"),
        (
            [("expansions.stan.temporal", "joint"), ("expansions.stan.class_token", "frame")],
            "expansions.stan: class_token",
            "must be clip with temporal: joint",
        ),
        (
            [("architectures.stan_12f.num_frames", 65)],
            "architectures.stan_12f: num_frames",
            "at most max_frames, 64",
        ),
        (
            [("architectures.clip_12f.family", "vit")],
            "param architectures.clip_12f.family",
            "set one of: xclip, clip, stan",
        ),
        (
            [("recipes.patch_dropout.captions", "class_names"), ("recipes.patch_dropout.similarity", "mug")],
            "recipes.patch_dropout: captions: class_names",
            "needs similarity: cosine; set it, or other captions",
        ),
        ([("linear_probe.min_c", 2000.0)], "linear_probe: max_c", "swap them"),
        ([("train_aggregator.seeds", [0, 1, 0])], "train_aggregator.seeds: ", "twice in means and deviations"),
        ([("linear_probe.seeds", [0, 0])], "linear_probe.seeds: ", "twice in means and deviations"),
        ([("linear_probe.shots", [1, 2, 1])], "linear_probe.shots: ", "twice in means and deviations"),
    ],
)
def test_params_that_contradict_each_other_are_named_with_the_mend(changes, name, mend):
    message = message_of(edited(*changes))
    assert message.startswith(name)
    assert mend in message


def test_a_tight_transformer_that_a_recipe_has_trained_scores_retrieval():
    assert load(edited(*TIGHT)).retrieval["own"].model == "trained-tight"
    again = ("finetuned.again", RECORD | {"from": "trained-tight"})
    changes = [*TIGHT, again, ("run.embedded", ["small_clip", "again"]), ("retrieval.own.model", "again")]
    assert load(edited(*changes)).retrieval["own"].model == "again"


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
    assert message_of(path).startswith("holds no")
    assert "write `name: value` lines" in message_of(path)


def test_a_missing_file_is_named_with_where_to_stand(tmp_path):
    assert message_of(tmp_path / "params.yaml") == "no such file; run this from the root of the repository"


LINES = "it must be a section, of lines `name: value`"
LIST = "it must be a list, [] where nothing is in it"


@pytest.mark.parametrize(
    ("param", "value", "line"),
    [
        ("embed", 5, f"embed is 5: {LINES}"),
        ("embed", None, f"embed is empty: {LINES}"),
        ("backbones", [1], f"backbones is [1]: {LINES}"),
        ("recipes.a", None, f"recipes.a is empty: {LINES}"),
        ("run.backbones", None, f"run.backbones is empty: {LIST}"),
        ("run.backbones", "x", f"run.backbones is 'x': {LIST}"),
        ("threads", "9" * 100, f"threads is '{'9' * 59}…: Input should be a valid integer"),
        ("sample_frames.clip_length_s", 1e-9, "sample_frames.clip_length_s is 1e-09: Input should be greater than or "),
    ],
)
def test_a_param_of_the_wrong_kind_is_named_with_what_is_given_and_what_is_wanted(param, value, line):
    message = message_of(edited((param, value)))
    assert message.startswith(f"param {line}")
