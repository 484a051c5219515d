"""Stage show_attention: what a fine-tuned model attends to in some test videos and their captions.

    python src/show_attention.py --model models/backbones/small_clip_stan-mug-0 --raw data/raw/partial_captions/tables \
        --frames data/frames/partial_captions --output data/predictions/attention/small_clip_stan-mug-0

Reads a model folder, the tables of the dataset and its stored frames. The captions are chosen by their ids alone. A
video is the one clip that spans it, as the interactions have it. Writes what stillmotion/attention/store.py lists: the
weights that Mug gives to frames and tokens, and where the branch of a STAN looks in each frame.
"""

import stillmotion.config.capped

import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from stillmotion.attention.store import AttendedExamples, write_attended
from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Caption, load_records
from stillmotion.stage import importing, run_stage
from stillmotion.video.packed import PackedFrames
from stillmotion.video.sampling import clip_layout

_log = logging.getLogger("stillmotion")


def main(
    model: Annotated[Path, typer.Option(help="model folder of a fine-tuned model")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    frames: Annotated[Path, typer.Option(help="stored frames of the dataset")],
    output: Annotated[Path, typer.Option(help="folder of the weights")],
) -> None:
    """Write what a model attends to in some pairs of the test split."""
    params = load_params()
    settings, clip_frames = params.show_attention, params.embed.clip_frames
    with importing():
        from stillmotion.attention.attended import attend, choose_captions
        from stillmotion.attention.patches import patch_attention
        from stillmotion.backbones.compute import prepare_torch
        from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
        from stillmotion.backbones.registry import load_backbone
        from stillmotion.backbones.stan_backbone import StanBackbone
    backbone = load_backbone(model, prepare_torch(read_environment(), params.threads))
    if not isinstance(backbone, OpenClipBackbone):
        raise InputError(
            f"params.yaml: run.attended names {model.name}, and this model ({type(backbone).__name__}) has no "
            "embeddings of single frames and tokens; take it out, or name nothing but CLIPs, CoCas and STANs"
        )
    packed = PackedFrames(frames)
    tested = {video.video_id for video in packed.videos if video.split == "test"}
    captions = choose_captions(load_records(raw, Caption), tested, settings.num_examples)
    if not captions:
        _log.warning("the test split has no captioned videos: no examples")
    rows: list[dict[str, Any]] = []
    maps: list[np.ndarray] = []
    for caption in captions:
        uniform = packed.uniform_indices(caption.video_id)
        clip_F = uniform[clip_layout(len(uniform), num_clips=1, clip_frames=clip_frames)[0]]
        frames_FHWC = packed.at(caption.video_id, clip_F)
        found = attend(backbone, frames_FHWC, caption.text, tau=settings.tau)
        rows.append(
            {
                "caption_id": caption.caption_id,
                "video_id": caption.video_id,
                "text": caption.text,
                "tokens": found.tokens,
                "stored_frames": clip_F,
                "text_to_frame": found.frame_weights_F,
                "video_to_token": found.token_weights_L,
                "cosines": found.cosines_LF,
            }
        )
        if isinstance(backbone, StanBackbone):
            maps.append(patch_attention(backbone, backbone.pixels(frames_FHWC)[None])[0].cpu().numpy())
    with atomic_folder(output) as partial:
        write_attended(partial, AttendedExamples(rows, np.stack(maps) if maps else None))


if __name__ == "__main__":
    run_stage(main)
