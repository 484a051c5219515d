"""Freezing the lower part of both towers of a CLIP.

Frozen means: no gradient, no optimizer state, and no backward computation below the lowest trainable layer.

Source: Lindgren 2023, section 3.2.3 (embeddings, then the first n blocks of both encoders).
"""

from typing import Any

import open_clip
import torch

from stillmotion.errors import InputError


def _towers(model: Any) -> tuple[Any, Any]:
    """The vision and the text transformer, the text one under either of open_clip's two layouts."""
    text = model if isinstance(model, open_clip.CLIP) else model.text
    known = (open_clip.CLIP, open_clip.transformer.TextTransformer, open_clip.transformer.VisionTransformer)
    for tower in (model.visual, text):
        if not isinstance(tower, known):
            raise InputError(
                f"freezing knows open_clip's own vision and text transformers, not {type(tower).__name__}; "
                "set freeze_embeddings: false and frozen_blocks: 0, or choose another backbone"
            )
    return model.visual, text


def freeze(model: torch.nn.Module, *, embeddings: bool, blocks: int) -> list[str]:
    """Freeze an open_clip model in place.

    Args:
        model: CLIP, CustomTextCLIP or CoCa with open_clip's own transformers.
        embeddings: freeze patch, class, position and token embeddings and the norm that follows them.
        blocks: freeze this many first blocks of both towers too.

    Returns:
        Names of the frozen parameters.

    Raises:
        InputError: a tower has fewer blocks.
    """
    if not embeddings and not blocks:
        return []
    visual, text = _towers(model)
    frozen: list[torch.nn.Parameter] = []
    frozen += [visual.class_embedding, visual.positional_embedding, *visual.conv1.parameters()]
    frozen += [text.positional_embedding, *text.token_embedding.parameters()]
    if getattr(text, "cls_emb", None) is not None:  # CoCa's text has a class token too
        frozen.append(text.cls_emb)
    # The norm before the first block belongs to the embeddings: were it trained, the gradient would have to
    # pass through all frozen blocks above it.
    frozen += list(visual.ln_pre.parameters())
    for tower in (visual, text):
        layers = tower.transformer.resblocks
        if blocks > len(layers):
            raise InputError(f"params.yaml: frozen_blocks is {blocks} and a tower has {len(layers)} blocks; set fewer")
        frozen += [parameter for block in layers[:blocks] for parameter in block.parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
    identities = {id(parameter) for parameter in frozen}
    return [name for name, parameter in model.named_parameters() if id(parameter) in identities]
