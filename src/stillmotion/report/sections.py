"""The sections of the page of published numbers: notes on a source, counterparts of its systems, commands."""

from dataclasses import dataclass

from stillmotion.report import commands, counterparts
from stillmotion.report.counterparts import Counterpart


@dataclass(frozen=True)
class Command:
    """What would run systems that have not run."""

    text: str
    purpose: str


@dataclass(frozen=True)
class Section:
    """The numbers of one source."""

    title: str
    prefix: str
    """How the sources of its numbers begin."""
    notes: tuple[str, ...]
    """What to know before comparing: faults of the source, units, differences of protocol."""
    by_dataset: bool = False
    """A table for each dataset, with a column that says which part of the source; else one for each such part."""
    commands: tuple[Command, ...] = ()
    counterparts: tuple[Counterpart, ...] = ()


_THESIS_TITLE = "Embeddings thesis (Lindgren 2023)"
_THESIS_SYSTEM = (
    r"X-CLIP B/(?P<patch>16|32)-(?P<frames>8|16|32)f (?P<kind>baseline|fine-tuned)"
    r"(?: \+ (?P<aggregator>mean|transformer-mean|class-token) aggregation)?(?: frames=(?P<total>\d+))?"
)


def _thesis_counterpart(frames: int, command: int) -> Counterpart:
    return Counterpart(
        source=r"Embeddings thesis .* Table 4\.[1-7]",
        system=_THESIS_SYSTEM.replace("8|16|32", str(frames)),
        published_on="ActivityNet.*",
        dataset="activitynet",
        metrics=tuple(counterparts.THESIS_METRICS),
        commands=(command,),
        find=counterparts.thesis_retrieval,
    )


THESIS = Section(
    title=_THESIS_TITLE,
    prefix=_THESIS_TITLE,
    notes=(
        "“B/16-32f” can only be the zero-shot checkpoint, the one published X-CLIP that takes 32 frames and was not "
        "trained on few shots. It was trained differently from the others, so that it shows more than the number of "
        "frames.",
        "Tables 4.9 and 4.10 are on the validation part of the train split. Table 4.10 prints fractions, and names "
        "neither its model nor what its FLOPs are of: the multiply-adds of the forward passes of an epoch (9,008 "
        "videos) by B/32-8f come to the 348 that it prints, so ours are of these. Its run times are its machine's.",
        "Table 4.8 was measured on the author's GPU; ours is counted for a training step of the same batch with 32-bit "
        "floats and AdamW. Here the aggregators are trained on stored embeddings, so that “aggregation=transformer "
        "mean” is no step of the whole model.",
        "The fine-tuned rows are means over three seeds: run a command once for each, with "
        "`-S recipes.half_patches.seed=1` and so on.",
    ),
    commands=(
        Command(commands.THESIS_8_FRAMES, "models of 8 frames"),
        Command(commands.THESIS_16_FRAMES, "models of 16 frames"),
        Command(commands.THESIS_32_FRAMES, "the model of 32 frames"),
        Command(
            commands.ARCHITECTURES,
            "parameters, memory and the FLOPs of table 4.10; no dataset and no weights are needed",
        ),
        Command(
            f"{commands.LEARNING_RATES}\n{commands.KEEP_RATES}",
            "R@1 of tables 4.9 and 4.10, with dataset: activitynet in params.yaml and the model in ablations.yaml",
        ),
    ),
    counterparts=(
        _thesis_counterpart(8, command=0),
        _thesis_counterpart(16, command=1),
        _thesis_counterpart(32, command=2),
        Counterpart(
            source=r"Embeddings thesis .* Table 4\.8",
            system=r"X-CLIP B/(?P<patch>16|32)-(?P<frames>\d+)f aggregation=average",
            published_on=".*",
            dataset="",
            metrics=("gpu_memory_GB",),
            commands=(3,),
            find=counterparts.architecture,
        ),
        Counterpart(
            source=r"Embeddings thesis .* Table 3\.1",
            system=r"X-CLIP Base/(?P<patch>16|32)(?P<frames>) \(all params\)",
            published_on=".*",
            dataset="",
            metrics=("params_M",),
            commands=(3,),
            find=counterparts.architecture,
        ),
        Counterpart(
            source=r"Embeddings thesis .* Table 4\.9[ab]",
            system=r"X-CLIP B/32-8f fine-tune (?P<optimizer>SGD|AdamW) lr=(?P<rate>\S+)",
            published_on="ActivityNet.*",
            dataset="activitynet",
            metrics=("R@1",),
            commands=(4,),
            find=counterparts.learning_rate,
        ),
        Counterpart(
            source=r"Embeddings thesis .* Table 4\.10",
            system=r"X-CLIP patch dropout keep=(?P<rate>\S+) batch=\d+",
            published_on="ActivityNet.*",
            dataset="",
            metrics=("R@1", "TFLOPs_fvcore"),
            commands=(3, 4),
            find=counterparts.keep_rate,
        ),
        Counterpart(
            source=r"Embeddings thesis .* sec 4\.6 .*",
            system="X-CLIP linear probe crossover vs zero-shot",
            published_on="ActivityNet.*",
            dataset="activitynet",
            metrics=("shots_per_class",),
            commands=(0,),
            find=counterparts.probe_crossover,
        ),
    ),
)

VIDEO_LLAMA = Section(
    title="Video-LLaMA report (Baba Ahmadi 2023)",
    prefix="Video-LLaMA report",
    notes=(
        "Values are fractions, and so are ours here. The report does not say which 1,000 videos it ranks: 1k-A is "
        "inferred.",
        "Of the raw embeddings, average and sum pooling must score the same under cosine, and with the first element "
        "every caption has one embedding, so that the MRR of 0.0075 is that of any order of 1,000 videos: arithmetic, "
        "no result.",
    ),
    commands=(Command(commands.MSRVTT_XCLIP, "the published checkpoints"),),
    counterparts=(
        Counterpart(
            source=r"Video-LLaMA report .* sec 2\.1",
            system="(?P<name>xclip-(?:base-patch32|base-patch16|large-patch14))",
            published_on="MSR-VTT",
            dataset="msrvtt",
            metrics=tuple(counterparts.HIT_RATES),
            commands=(0,),
            find=counterparts.hit_rates,
        ),
    ),
)

VCLIPPER = Section(
    title="VClipper (Caravaca 2024)",
    prefix="VClipper",
    notes=(
        "Its comparison sets its own validation numbers beside test numbers of other systems, and VC2's mAP@0.75 is "
        "printed as both 24.76 and 27.68.",
        "Its thresholds are tuned on 7,218 labelled queries: it is training-free, not label-free. Which weights of the "
        "ViT-B/32 it took is not said; ours are LAION's.",
        "Its frame-level table is in fractions, and of thresholds tuned for frames; the others are tuned for windows. "
        "The folder data/sources/qvhighlights must be without the test file, so that val is what is tested.",
    ),
    commands=(Command(commands.VCLIPPER_WINDOWS, "windows"), Command(commands.VCLIPPER_FRAMES, "frames")),
    counterparts=(
        Counterpart(
            source=r"VClipper .* sec 4\.2\.2",
            system=r"(?P<method>VC[12]) post=(?P<post>\w+)",
            published_on="QVHighlights",
            dataset="qvhighlights",
            metrics=(*counterparts.WINDOW_METRICS, "mIoU"),
            commands=(0,),
            find=counterparts.windows,
        ),
        Counterpart(
            source=r"VClipper .* (?:sec 4\.4|abstract)",
            system=r"(?:(?P<method>VC[12])\+LSN .*|VClipper abstract claim)",
            published_on="QVHighlights",
            dataset="qvhighlights",
            metrics=(*counterparts.WINDOW_METRICS, "mIoU"),
            commands=(0,),
            find=counterparts.windows,
        ),
        Counterpart(
            source=r"VClipper .* sec 4\.2\.1",
            system=r"(?P<method>VC[12]) post=(?P<post>\w+)",
            published_on="QVHighlights",
            dataset="qvhighlights",
            metrics=tuple(counterparts.FRAME_METRICS),
            commands=(1,),
            find=counterparts.selected_frames,
        ),
    ),
)

_ZERO_SHOT_CLIP = Command(commands.MSRVTT_CLIP, "OpenAI's CLIP with averaged frames")

MUG_STAN = Section(
    title="Mug-STAN (Liu et al. 2023)",
    prefix="Mug-STAN",
    notes=(
        "In Table I the retrieval cells of “X-CLIP B/16” are identical to CLIP-ViP's: a copying error, no target.",
        "Tables II and IV to IX lost their bodies in the copy that was read; what the text says of them is here.",
    ),
    by_dataset=True,
    commands=(_ZERO_SHOT_CLIP,),
    counterparts=(
        Counterpart(
            source=r"Mug-STAN .* Table I",
            system=r"CLIP (?P<size>B/32|B/16|L/14)",
            published_on="MSR-VTT",
            dataset="msrvtt",
            metrics=tuple(counterparts.RECALLS),
            commands=(0,),
            find=counterparts.zero_shot_clip,
        ),
    ),
)

OTHERS = Section(
    title="Other sources",
    prefix="",
    notes=(
        "Several of these systems chose their epoch on the test split, and those with DSL or inverted softmax rank "
        "with all queries at hand, one match each: neither compares with a plain ranking. The X-CLIP of Ma et al. "
        "(2207.07285) is another model than Microsoft's. Kinetics, HMDB-51 and UCF-101 are not among the datasets that "
        "the pipeline reads by their annotation files; of the GFLOPs (multiply-adds) that are printed for them, ours "
        "are of a clip and a text.",
        "The sample submission of Moment-DETR is scored to the last digit by `stillmotion score moments`; a test "
        "holds it.",
    ),
    by_dataset=True,
    commands=(_ZERO_SHOT_CLIP, Command(commands.ARCHITECTURES, "parameters and FLOPs")),
    counterparts=(
        Counterpart(
            source="foolwood/DRL README",
            system=r"CLIP zero-shot (?P<size>B/32)",
            published_on="MSR-VTT",
            dataset="msrvtt",
            metrics=tuple(counterparts.RECALLS),
            commands=(0,),
            find=counterparts.zero_shot_clip,
        ),
        Counterpart(
            source=r"microsoft/VideoX .*",
            system=r"X-CLIP-B/(?P<patch>16|32) (?P<frames>8|16)f",
            published_on="Kinetics-.*",
            dataset="",
            metrics=("GFLOPs_per_view",),
            commands=(1,),
            find=counterparts.architecture,
        ),
        Counterpart(
            source=r"embeddings-benchmark/mteb .*",
            system=r"microsoft/xclip-base-patch(?P<patch>16|32)(?P<frames>)",
            published_on=".*",
            dataset="",
            metrics=("params_M",),
            commands=(1,),
            find=counterparts.architecture,
        ),
    ),
)

SECTIONS = (THESIS, VIDEO_LLAMA, VCLIPPER, MUG_STAN, OTHERS)
"""A number belongs to the first section that its source begins like."""
