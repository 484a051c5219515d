"""STAN around the architectures that its source adapts, with random weights: one training step each."""

import open_clip
import pytest
import torch

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.backbones.stan_backbone import StanBackbone
from stillmotion.backbones.stan_settings import StanSettings

WIDTH, FRAMES, MAX_FRAMES = 768, 2, 64
BLOCK = 12 * WIDTH**2 + 13 * WIDTH
"""Parameters of a block of the tower: attention 4 W² + 4 W, MLP 8 W² + 5 W, two norms of 2 W."""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["ViT-B-32", "coca_ViT-B-32"])
def test_a_training_step_of_the_published_size(architecture):
    settings = StanSettings(
        num_layers=4,
        skipped_layers=0,
        interval=1,
        structure="branch",
        temporal="self_attention",
        inter_proj="linear",
        class_token="clip",
        class_token_mean="after_attention",
        max_frames=MAX_FRAMES,
        context_frames=12,
        drop_path=0.1,
        seed=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model(architecture, pretrained_text=False)
    clip = OpenClipBackbone(model, open_clip.get_tokenizer(architecture), {})
    stan = StanBackbone(clip, settings)
    temporal = 5 * WIDTH**2 + 5 * WIDTH + 2 * WIDTH  # attention, the silent linear, a norm
    tables = (49 + MAX_FRAMES) * WIDTH
    new = dict(stan.branch.named_parameters())
    assert sum(value.numel() for value in new.values()) == 4 * (BLOCK + temporal) + 3 * WIDTH**2 + tables

    pixels = torch.randn(1, FRAMES, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = clip.model.encode_image(pixels[0], normalize=True)
        cosines = (stan.eval().frame_embeddings(pixels)[0] * expected).sum(-1)
    assert cosines.min() > 0.5  # new, but not far
    stan.train()
    stan.set_gradient_checkpointing(True)
    stan.draw_paths([0])
    video = stan.embed_clips(pixels)
    vectors_NLD, mask_NL = stan.token_embeddings(stan.tokens(["a dog runs"]))
    (vectors_NLD[mask_NL] @ video.T).sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in new.values())
    assert all(value.grad.abs().max() > 0 for name, value in new.items() if name.endswith("out.weight"))
    assert stan.model.visual.conv1.weight.grad.abs().max() > 0
