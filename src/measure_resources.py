"""Stage measure_resources: what a training step of a model costs, by the recipe that fine-tuned it or with all trained.

Of a video LLM, which is not trained: what the forward pass of a video of 224 px costs.

    python src/measure_resources.py --model models/backbones/small_clip-patch_dropout \
        --output metrics/resources/small_clip-patch_dropout.json

Reads a model folder. Writes parameters, trainable parameters, forward and backward FLOPs, peak memory and
seconds a step, for the batch of params. These depend on the machine: no other stage reads them.
"""

import stillmotion.config.capped

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from stillmotion.backbones.family_files import read_source
from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.config.processor import processor_name
from stillmotion.config.training import seeded_recipe
from stillmotion.io.tables import write_json
from stillmotion.stage import importing, run_stage

VIDEO_PX = 224


def main(
    model: Annotated[Path, typer.Option(help="model folder")],
    output: Annotated[Path, typer.Option(help="JSON file of the measurements")],
) -> None:
    """Measure one training step."""
    params = load_params()
    setting = params.measure_resources
    with importing():
        import torch

        from stillmotion.backbones.backbone import Backbone
        from stillmotion.backbones.compute import prepare_torch
        from stillmotion.backbones.registry import load_embeds
        from stillmotion.backbones.video_llm.model import VideoLLM
        from stillmotion.costs.resources import count_parameters, measure_inference, measure_step
        from stillmotion.training.recipe import apply_recipe
        from stillmotion.training.similarity import Cosine, similarity_of
    device = prepare_torch(read_environment(), params.threads)
    backbone, source = load_embeds(model, device), read_source(model)
    about = {"device": device.type, "threads": params.threads, "processor": processor_name()}
    about |= {"system": source["system"] | {"scorer": None}}
    if isinstance(backbone, VideoLLM):
        backbone.requires_grad_(False)
        clip_1F = np.arange(backbone.settings.num_frames)[None]
        # Noise: a model may drop what stays as it was.
        shape = (clip_1F.size, VIDEO_PX, VIDEO_PX, 3)
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        cost = measure_inference(
            lambda: backbone.keep_clips(noise, clip_1F, clip_1F.size), device, repeats=setting.repeats
        )
        write_json(output, count_parameters(backbone) | cost.row(1, clip_1F.size) | about)
        return
    assert isinstance(backbone, Backbone)
    backbone.train()
    # An expansion of a fine-tuned model was not trained itself.
    trained = source["system"]["recipe"] is not None and "recipe" in source
    recipe = seeded_recipe(**source["recipe"]) if trained else None
    dropout = apply_recipe(backbone, recipe) if recipe else None
    recognises = recipe is not None and recipe.captions == "class_names"
    similarity = Cosine() if recognises else similarity_of(recipe, backbone)
    size = backbone.image_size_px
    num_frames = backbone.clip_frames or setting.num_frames
    pixels = torch.zeros(setting.batch_size, num_frames, 3, size, size, device=device)
    # The longest text that the model takes: what it costs does not depend on the words.
    tokens = backbone.tokens(["word " * 512] * setting.batch_size)

    def loss_of() -> torch.Tensor:
        if dropout is not None:
            dropout.draw([0], num_frames)
        backbone.draw_paths([0], first_clip=0)
        return similarity.loss(*similarity.embed(backbone, pixels, tokens), backbone.logit_scale)

    cost = measure_step(loss_of, backbone, device, repeats=setting.repeats)
    write_json(output, count_parameters(backbone) | cost.row(setting.batch_size, num_frames) | about)


if __name__ == "__main__":
    run_stage(main)
