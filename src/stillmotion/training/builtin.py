"""The small CLIP that the pipeline trains itself, where there are no pretrained weights to fetch.

It is open_clip's own class. As CLIP did, it sees single images with captions that say nothing of motion; as
on the web, a caption can be longer than what its image shows: one of its sentences describes the image, the
others describe something else. Without that it would know no text of more than one sentence.
"""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.config.processor import instructions
from stillmotion.datasets.toy_scene import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    SIZES,
    Subject,
    draw,
    random_pose,
    random_subject,
    sentence,
)
from stillmotion.io.memo import Memo
from stillmotion.training.contrastive import contrastive_loss
from stillmotion.training.loop import FitSettings, fit

ATTRIBUTES = {
    "size": SIZES,
    "color": tuple(COLORS),
    "shape": SHAPES,
    "background": tuple(BACKGROUNDS),
}


def builtin_config(params: BuiltinBackboneParams) -> dict[str, Any]:
    """The model in open_clip's own configuration format."""
    vision = {
        "width": params.width,
        "layers": params.layers,
        "image_size": params.image_size_px,
        "patch_size": params.patch_size_px,
        "head_width": params.width // params.heads,
    }
    text = {
        "width": params.width,
        "layers": params.text_layers,
        "heads": params.heads,
        "context_length": 77,
        "vocab_size": 49408,
    }
    return {
        "model_cfg": {"embed_dim": params.embed_dim, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": asdict(PreprocessCfg(size=params.image_size_px)),
    }


def new_builtin(params: BuiltinBackboneParams) -> OpenClipBackbone:
    """The model with random weights from params.seed."""
    config = builtin_config(params)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        model = open_clip.CLIP(**config["model_cfg"])
    open_clip.model.set_model_preprocess_cfg(model, config["preprocess_cfg"])
    return OpenClipBackbone(model, open_clip.SimpleTokenizer(), config)


def contrasting_subjects(num: int, rng: np.random.Generator) -> list[Subject]:
    """Subjects in groups whose members differ in one attribute only, the same attribute for all groups.

    Drawn independently, hardly two subjects of a batch would share all but the shape, and nothing would make
    the model look at shapes.
    """
    attribute = rng.choice(list(ATTRIBUTES))
    subjects: list[Subject] = []
    while len(subjects) < num:
        subject = random_subject(rng)
        subjects += [replace(subject, **{attribute: value}) for value in ATTRIBUTES[attribute]]
    return subjects[:num]


def captioned_images(params: BuiltinBackboneParams, step: int) -> tuple[np.ndarray, list[str]]:
    """The training batch of one step: images (B, H, W, 3) uint8 and their captions.

    Three steps of four have captions of one sentence, the others of 2 to params.max_sentences, the same number
    throughout a batch so that short batches stay cheap.
    """
    rng = np.random.default_rng([params.seed, step])
    num_others = 0
    if step % 4 == 3 and params.max_sentences > 1:
        num_others = int(rng.integers(1, params.max_sentences))
    images, captions = [], []
    for shown in contrasting_subjects(params.batch_size, rng):
        sentences = [sentence(random_subject(rng)) for _ in range(num_others)]
        sentences.insert(int(rng.integers(num_others + 1)), sentence(shown))
        images.append(draw(shown, random_pose(rng), params.image_size_px))
        captions.append(". ".join(sentences) + ".")
    return np.stack(images), captions


def train_builtin(
    params: BuiltinBackboneParams, device: torch.device, memo: Memo, code: str, threads: int
) -> OpenClipBackbone:
    """Train the model from nothing.

    Args:
        params: sizes and schedule.
        device: where to train.
        memo: where checkpoints go.
        code: digest of the code that decides the outcome, for the memo.
        threads: how many sum up; the last digits depend on it, so the memo is told.
    """
    backbone = new_builtin(params).to(device).train()

    def loss_at(epoch: int, step: int) -> torch.Tensor:
        images, captions = captioned_images(params, step)
        frames_BD = backbone.embed_frames(backbone.pixels(images))
        texts_BD = backbone.embed_texts(backbone.tokens(captions))
        return contrastive_loss(frames_BD, texts_BD, backbone.logit_scale)

    settings = FitSettings(
        epochs=1,
        steps_per_epoch=params.steps,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        warmup_fraction=params.warmup_fraction,
        gradient_clip=1.0,
    )
    key = {
        "params": params.model_dump(),
        "code": code,
        "torch": torch.__version__,
        "device": device.type,
        "threads": threads,
        "instructions": instructions(),
    }
    fitted = fit(backbone, loss_at, settings, label="training the built-in CLIP", memo=memo, key=key)
    backbone.load_state_dict(fitted.best, strict=False)
    return backbone.eval()
