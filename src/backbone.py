"""Stage backbone: fetch pretrained weights, or train the small built-in model.

    python src/backbone.py --name small_clip --weights data/weights --output models/backbones/small_clip

Reads nothing but params and, with `pretrained: file`, data/weights/NAME.safetensors (or .pt, .bin); with
`checkpoint: folder`, data/weights/NAME/. Writes a folder in the hub's layout of the family: open_clip's
(open_clip_config.json, open_clip_model.safetensors, tokenizer files where the model has its own) or that of
transformers (config.json, model.safetensors, preprocessor_config.json, tokenizer files, and xclip.json with the
number of tokens, or video_llm.json with the settings of a video LLM), with source.json, which says where the weights
came from and their SHA-256.
"""

import stillmotion.config.capped

from pathlib import Path
from typing import Annotated

import typer

from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.config.models import BuiltinBackboneParams, XClipBackboneParams
from stillmotion.config.processor import instructions
from stillmotion.config.video_llms import VideoLLMBackboneParams
from stillmotion.io.memo import open_memo
from stillmotion.provenance import code_version
from stillmotion.stage import importing, run_stage


def main(
    name: Annotated[str, typer.Option(help="key of `backbones` in params.yaml")],
    weights: Annotated[Path, typer.Option(help="folder that local weight files are put in")],
    output: Annotated[Path, typer.Option(help="folder of the model")],
) -> None:
    """Fetch pretrained weights, or train the small built-in model."""
    params = load_params()
    backbone = params.backbones[name]
    environment = read_environment()
    nothing = dict.fromkeys(("expansion", "pretraining", "recipe", "seed"))
    system = {"system": {"model": name, "base": name} | nothing}
    if isinstance(backbone, XClipBackboneParams):
        with importing():
            from stillmotion.backbones.xclip_checkpoint import pretrained_xclip
        xclip, source = pretrained_xclip(name, backbone, weights)
        xclip.save(output, source | system)
        return
    if isinstance(backbone, VideoLLMBackboneParams):
        with importing():
            from stillmotion.backbones.video_llm.checkpoint import pretrained_video_llm
        video_llm, source = pretrained_video_llm(name, backbone, weights)
        video_llm.save(output, source | system)
        return
    with importing():
        from stillmotion.backbones.open_clip_backbone import save_backbone
    if isinstance(backbone, BuiltinBackboneParams):
        with importing():
            from stillmotion.backbones.compute import prepare_torch
            from stillmotion.training import builtin
        device = prepare_torch(environment, params.threads)
        code, memo = code_version(builtin.__file__), open_memo(environment.memo)
        trained = builtin.train_builtin(backbone, device, memo, code, params.threads)
        source = {"trained_by": "backbone stage", "seed": backbone.seed, "instructions": instructions()}
        save_backbone(output, trained.model, trained.config, source | system)
        return
    with importing():
        from stillmotion.backbones.pretrained import find_tokenizer, pretrained_model
    # First, as it costs nothing where it is not to be had.
    tokenizer = find_tokenizer(name, backbone, weights)
    model, config, source = pretrained_model(name, backbone, weights)
    save_backbone(output, model, config, source | system, tokenizer=tokenizer)


if __name__ == "__main__":
    run_stage(main)
