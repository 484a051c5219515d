"""The commands that the report prints for what has not run here."""

from stillmotion.report.counterparts import CLIP, SUFFIXES, VCLIPPER, XCLIP

LINE = 110
"""Characters after which a command goes on in a new line."""


def exp_run(*settings: str) -> str:
    """`dvc exp run` with these settings, in lines that a shell joins.

    `exp_run("a=1", "b=[x, y]")` is `dvc exp run -S a=1 -S 'b=[x, y]'`.
    """
    lines = ["dvc exp run"]
    for setting in settings:
        quoted = f"'{setting}'" if set(setting) & set("[]{} ") else setting
        if len(lines[-1]) + len(quoted) + 4 > LINE:
            lines.append(" ")
        lines[-1] += f" -S {quoted}"
    return " \\\n".join(lines)


def _models(*backbones: str, finetuned: bool, probed: bool = False, selected: str = "") -> tuple[str, ...]:
    names = ",".join(backbones)
    tuned = [f"{name}-half_patches" for name in backbones] if finetuned else []
    models = ",".join([*backbones, *tuned])
    return (
        "sample_frames.size_px=224",
        f"run.backbones=[{names}]",
        "run.expanded=[]",
        f"run.embedded=[{names}]",
        f"run.finetuned=[{names if finetuned else ''}]",
        *(["run.recipes=[half_patches]"] if finetuned else []),
        f"run.models=[{models}]",
        "run.conditional=[]",
        f"run.probed=[{models if probed else ''}]",
        *([] if probed else ["embed.spans=false"]),
        f"run.assessed=[{selected}]",
        f"run.selected=[{selected}]",
        *([] if selected else ["embed.single_frames=false"]),
    )


def _xclip(name: str, checkpoint: str) -> str:
    """A backbone that params.yaml need not have."""
    return f"+backbones.{name}={{family: xclip, checkpoint: microsoft/{checkpoint}, revision: main, max_tokens: 72}}"


def _clip(name: str, architecture: str) -> str:
    return (
        f"+backbones.{name}={{family: open_clip, architecture: {architecture}-quickgelu, pretrained: openai, "
        "revision: main, seed: 0}"
    )


def _thesis(*backbones: str, frames: int, clip_counts: str, probed: bool = False, more: tuple[str, ...] = ()) -> str:
    """Section 3.1 and 3.2: the recipe, the aggregators and their training."""
    return exp_run(
        "dataset=activitynet",
        *more,
        *_models(*backbones, finetuned=True, probed=probed),
        "run.aggregators=[mean,transformer_mean,class_token]",
        f"embed.clip_counts={clip_counts}",
        "train_aggregator.epochs=5",
        "train_aggregator.batch_size=256",
        "train_aggregator.seeds=[0,1,2,3,4]",
        "recipes.half_patches.epochs=5",
        "recipes.half_patches.learning_rate=1e-5",
        "recipes.half_patches.batch_size=256",
        f"recipes.half_patches.num_frames={frames}",
    )


def _vclipper(objective: str) -> str:
    posts = ("none", "norm", "adjust_norm", "log_smooth_norm")
    selections = [f"{method}_{post}{SUFFIXES[objective]}" for method in ("vc1", "vc2") for post in posts]
    return exp_run(
        "dataset=qvhighlights",
        *_models(VCLIPPER, finetuned=False, selected=VCLIPPER),
        "run.aggregators=[mean]",
        f"run.selections=[{','.join(selections)}]",
    )


THESIS_8_FRAMES = _thesis(XCLIP["32", "8"], XCLIP["16", "8"], frames=8, clip_counts="[1,2,3,4]", probed=True)
THESIS_16_FRAMES = _thesis(
    XCLIP["32", "16"],
    XCLIP["16", "16"],
    frames=16,
    clip_counts="[1,2]",
    more=(
        _xclip(XCLIP["32", "16"], "xclip-base-patch32-16-frames"),
        _xclip(XCLIP["16", "16"], "xclip-base-patch16-16-frames"),
    ),
)
THESIS_32_FRAMES = _thesis(
    XCLIP["16", "32"], frames=32, clip_counts="[1]", more=(_xclip(XCLIP["16", "32"], "xclip-base-patch16-zero-shot"),)
)
LEARNING_RATES = "stillmotion ablate learning_rate_adamw\nstillmotion ablate learning_rate_sgd"
TOLD = "\n".join(f"stillmotion ablate told_{arm}" for arm in ("cosine", "mug", "stan_cosine", "stan_mug"))
KEEP_RATES = "stillmotion ablate patch_keep_rate"
ARCHITECTURES = "make resources"
MSRVTT_XCLIP = exp_run(
    "dataset=msrvtt",
    _xclip("xclip_large_patch14", "xclip-large-patch14"),
    *_models("xclip_base_patch32", "xclip_base_patch16", "xclip_large_patch14", finetuned=False),
    "run.aggregators=[mean]",
    "embed.clip_counts=[1]",
)
MSRVTT_CLIP = exp_run(
    "dataset=msrvtt",
    _clip(CLIP["B/32"], "ViT-B-32"),
    _clip(CLIP["B/16"], "ViT-B-16"),
    _clip(CLIP["L/14"], "ViT-L-14"),
    *_models(*CLIP.values(), finetuned=False),
    "run.aggregators=[mean]",
    "embed.clip_counts=[1]",
    "embed.clip_frames=12",
)
VCLIPPER_WINDOWS, VCLIPPER_FRAMES = _vclipper("R1@0.5"), _vclipper("frame_AP@0.5")
AGGREGATORS = exp_run("run.aggregators=[mean,transformer_mean,class_token]", "embed.clip_counts=[1,2,3,4]")
RETRIEVAL = "make retrieval"
DEFAULT = "dvc repro"
MOMENTS = "make moments"
ALIGNMENT = "make alignment"
HEADS = "make heads"
PRETRAINING = "make pretraining"
RECOGNITION = "make recognition"
SHOTS = exp_run("linear_probe.shots=[1,2,4,8,16]")
