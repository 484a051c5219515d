"""Three steps of the built-in video LLM and of its heads, on two threads; prints the SHA-256 of their weights."""

import stillmotion.config.capped

import hashlib
from pathlib import Path

import numpy as np
import torch
from ruamel.yaml import YAML

from stillmotion.backbones.compute import prepare_torch
from stillmotion.backbones.video_llm.builtin import expand_video_llm
from stillmotion.config.environment import read_environment
from stillmotion.config.models import BuiltinBackboneParams, BuiltinVideoLLMParams
from stillmotion.config.scorers import MlpHeadParams, TransformerHeadParams
from stillmotion.retrieval.alignment import build_head
from stillmotion.training.builtin import new_builtin
from stillmotion.training.heads import pair_loss

CLIP = BuiltinBackboneParams(
    family="builtin",
    image_size_px=64,
    patch_size_px=16,
    width=128,
    layers=2,
    text_layers=1,
    heads=4,
    embed_dim=128,
    steps=1,
    batch_size=2,
    learning_rate=1e-3,
    weight_decay=0.1,
    warmup_fraction=0.1,
    max_sentences=1,
    seed=0,
)
EXPERIMENT = Path(__file__).resolve().parents[2] / "experiments" / "video_llm_builtin.yaml"
NUM_VIDEOS, NUM_PAIRS, WIDTH = 16, 32, 128
TEXTS = ["a large red circle moves right on a grey background . a small blue square", "a green triangle jumps"]


def train(module, loss_of):
    """Three steps of AdamW, as in training/loop.py."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, fused=True)
    for step in range(3):
        torch.manual_seed(step)  # of the dropout
        optimizer.zero_grad()
        loss_of().backward()
        torch.nn.utils.clip_grad_norm_(list(module.parameters()), 1.0)
        optimizer.step()


def trained_modules():
    """The language model with its projector, and heads of both kinds by all losses and in both precisions."""
    settings = YAML(typ="safe").load(EXPERIMENT)["set"]["expansions.video_llm"]
    model = expand_video_llm(new_builtin(CLIP).eval(), BuiltinVideoLLMParams.model_validate(settings)).train()
    frames = np.random.default_rng(0).integers(0, 256, (NUM_VIDEOS, 8, 64, 64, 3), dtype=np.uint8)
    texts = [TEXTS[row % len(TEXTS)] for row in range(NUM_VIDEOS)]
    train(model.own, lambda: model.caption_losses(list(frames), texts).mean())
    yield model.own
    states = torch.from_numpy(np.random.default_rng(1).standard_normal((2, NUM_PAIRS, 5, WIDTH)))
    is_padding, labels = torch.zeros(NUM_PAIRS, 5, dtype=torch.bool), torch.arange(NUM_PAIRS) % 2
    common = {"layer": "last", "towers": "shared", "dropout": 0.1, "margin": 0.0, "positives": 1, "redraw": False}
    common |= {"epochs": 1, "batch_size": NUM_PAIRS, "learning_rate": 1e-3, "schedule": "constant"}
    pooled = {"kind": "mlp_head", "video_pooling": "mean", "text_pooling": "mean", "inputs": "raw", "hidden": [96, 64]}
    encoder = {"kind": "transformer_head", "blocks": 2, "heads": 8, "mlp_width": 192}
    for loss, precision in (("mse", "float32"), ("contrastive", "float64"), ("infonce", "float32")):
        given = states.to(torch.float32 if precision == "float32" else torch.float64)
        chosen = common | {"loss": loss, "precision": precision, "negatives": 0 if loss == "infonce" else 1}
        for params, inputs in (
            (MlpHeadParams.model_validate(chosen | pooled), [(each.mean(1),) for each in given]),
            (TransformerHeadParams.model_validate(chosen | encoder), [(each, is_padding) for each in given]),
        ):
            head = build_head(params, width=WIDTH, seed=0).train()
            train(
                head,
                lambda head=head, inputs=inputs, params=params: pair_loss(
                    head.videos(*inputs[0]), head.texts(*inputs[1]), labels, params, head.log_scale
                ),
            )
            yield head


if __name__ == "__main__":
    prepare_torch(read_environment(), 2)
    digest = hashlib.sha256()
    for module in trained_modules():
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(name.encode() + tensor.detach().numpy().tobytes())
    print(digest.hexdigest())
