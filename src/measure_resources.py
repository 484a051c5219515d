"""Stage measure_resources: what a training step of a backbone costs, or of a recipe on it.

    python src/measure_resources.py --backbone models/backbones/small_clip --output metrics/resources/small_clip.json
    python src/measure_resources.py --backbone models/backbones/small_clip --recipe half_patches \
        --output metrics/resources/small_clip-half_patches.json

Reads a model folder. Writes parameters, trainable parameters, forward and backward FLOPs, peak memory and
seconds a step, for the batch of params. These depend on the machine: no other stage reads them.
"""

import stillmotion.config.capped  # noqa: F401 - before all others

import platform
from pathlib import Path
from typing import Annotated

import torch
import typer

from stillmotion.backbones.compute import prepare_torch
from stillmotion.backbones.registry import load_backbone
from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.costs.resources import count_parameters, measure_step
from stillmotion.io.tables import write_json
from stillmotion.stage import run_stage
from stillmotion.training.recipe import apply_recipe
from stillmotion.training.similarity import Cosine, similarity_of


def main(
    backbone: Annotated[Path, typer.Option(help="model folder")],
    output: Annotated[Path, typer.Option(help="JSON file of the measurements")],
    recipe: Annotated[str, typer.Option(help="key of `recipes`; without it everything is trained")] = "",
) -> None:
    """Measure one training step."""
    params = load_params()
    setting = params.measure_resources
    environment = read_environment()
    device = prepare_torch(environment, params.threads)
    model = load_backbone(backbone, device).train()
    chosen = params.recipes[recipe] if recipe else None
    dropout = apply_recipe(model, chosen) if chosen else None
    recognises = chosen is not None and chosen.captions == "class_names"
    similarity = Cosine() if recognises else similarity_of(chosen, model)
    size = model.image_size_px
    num_frames = model.clip_frames or setting.num_frames
    pixels = torch.zeros(setting.batch_size, num_frames, 3, size, size, device=device)
    # The longest text that the model takes: what it costs does not depend on the words.
    tokens = model.tokens(["word " * 512] * setting.batch_size)

    def loss_of() -> torch.Tensor:
        if dropout is not None:
            dropout.draw([0], num_frames)
        model.draw_paths([0], first_clip=0)
        return similarity.loss(*similarity.embed(model, pixels, tokens), model.logit_scale)

    cost = measure_step(loss_of, model, device, repeats=setting.repeats)
    machine = {"device": device.type, "threads": params.threads, "processor": platform.machine()}
    counts = count_parameters(model)
    write_json(output, counts | cost.row(setting.batch_size, num_frames) | machine)


if __name__ == "__main__":
    run_stage(main)
