"""Stage expand_backbone: give an image-language model what makes it a video model.

    python src/expand_backbone.py --expansion xclip --backbone models/backbones/small_clip \
        --output models/backbones/small_clip_xclip

Reads a CLIP of open_clip (for `stan` and `clip4clip` also a CoCa); writes the folder of an X-CLIP in the layout of
transformers (config.json, model.safetensors, preprocessor_config.json, tokenizer files, xclip.json, source.json), of a
STAN (the files of the open_clip model, stan.json, stan.safetensors, source.json) or of a CLIP4Clip (likewise, with
clip4clip.json and clip4clip.safetensors). For `video_llm_layer` it reads a video LLM and writes its folder once more,
with another choice in video_llm.json. The new modules of the first two change as little as they can until they
are trained; the heads of the third start as their source starts them.
"""

import stillmotion.config.capped

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillmotion.backbones.family_files import read_source
from stillmotion.config.loading import load_params
from stillmotion.errors import InputError
from stillmotion.stage import importing, run_stage

if TYPE_CHECKING:
    from stillmotion.backbones.backbone import Embeds


def main(
    expansion: Annotated[str, typer.Option(help="key of `expansions` in params.yaml")],
    backbone: Annotated[Path, typer.Option(help="model folder of an open_clip model")],
    output: Annotated[Path, typer.Option(help="folder of the expanded model")],
) -> None:
    """Build an X-CLIP, a STAN or a CLIP4Clip around an image-language model, or choose a layer of a video LLM."""
    params = load_params()
    chosen = params.expansions[expansion]
    with importing():
        import torch

        from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
        from stillmotion.backbones.registry import load_backbone
    before = read_source(backbone)
    system = before["system"] | {"model": output.name, "expansion": expansion}
    if chosen.family == "video_llm_layer":
        with importing():
            from stillmotion.backbones.video_llm.choice import choose_layer
        choose_layer(backbone, chosen, output, {"system": system, "backbone": before, "expansion": expansion})
        return
    clip = load_backbone(backbone, torch.device("cpu"))
    if type(clip) is not OpenClipBackbone:  # its subclasses are expanded already
        raise InputError(f"{backbone}: only models of open_clip can be expanded; take this one out of `expanded`")
    source = {"system": system, "backbone": before, "expansion": expansion, "seed": chosen.seed}
    expanded: Embeds
    if chosen.family == "stan":
        with importing():
            from stillmotion.backbones.stan_expansion import expand_stan
            from stillmotion.backbones.stan_settings import StanSettings
        expanded = expand_stan(clip, StanSettings(**chosen.model_dump(exclude={"family"})))
    elif chosen.family == "clip4clip":
        with importing():
            from stillmotion.backbones.clip4clip_backbone import Clip4ClipSettings, expand_clip4clip
        expanded = expand_clip4clip(clip, Clip4ClipSettings(**chosen.model_dump(exclude={"family"})))
    elif chosen.family == "builtin_video_llm":
        with importing():
            from stillmotion.backbones.video_llm.builtin import expand_video_llm
        expanded = expand_video_llm(clip, chosen)
    else:
        with importing():
            from stillmotion.backbones.xclip_expansion import expand_clip
        expanded = expand_clip(clip, chosen)
    expanded.save(output, source)


if __name__ == "__main__":
    run_stage(main)
