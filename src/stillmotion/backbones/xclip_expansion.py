"""From a CLIP of open_clip to an X-CLIP, as X-CLIP itself began: CLIP's weights, and new modules around them.

The new modules change as little as the architecture lets them before they are trained:

- the integration over frames adds nothing: its output projections and its positions are zero;
- a text that depends on the video is the text again: the output projections of the prompts are zero;
- the message token that each vision block adds to a frame's attention can't be left out. It starts as a copy of
  the frame's own class token, which attention then counts twice; what it hears from other frames starts at zero.
  Of the starts that were tried on the built-in CLIP and toy frames this one disturbs the clips least.

Source: Ni et al. 2022 (X-CLIP), sections 3.2 and 3.3; METHODS.md section 3.

Shapes: W width, D embedding dimensions.
"""

from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transformer import LayerNorm, LayerNormFp32, QuickGELU, ResidualAttentionBlock
from transformers import CLIPTokenizer, XCLIPConfig, XCLIPModel

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.backbones.xclip_backbone import PROCESSOR, XClipBackbone
from stillmotion.backbones.xclip_processor import Preprocessing, read_preprocessing
from stillmotion.config.models import XClipExpansionParams
from stillmotion.errors import InputError

_HEAD_WIDTH = 64
_RESAMPLE = {"bilinear": 2, "bicubic": 3}


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise InputError(f"X-CLIP can't be built around this model: {reason}; expand a CLIP of a ViT and CLIP's text")


def _activation(block: Any) -> str:
    kinds = {torch.nn.GELU: "gelu", QuickGELU: "quick_gelu"}
    kind = type(block.mlp.gelu)
    _require(kind in kinds, f"its activation is {kind.__name__}")
    return kinds[kind]


def _check_blocks(transformer: Any, name: str) -> None:
    for block in transformer.resblocks:
        _require(type(block) is ResidualAttentionBlock, f"the {name} blocks are {type(block).__name__}")
        _require(isinstance(block.ls_1, torch.nn.Identity), f"the {name} blocks scale their layers")
        _require(isinstance(block.ln_1, LayerNorm | LayerNormFp32), f"the {name} norms are {type(block.ln_1).__name__}")


def _text_tower(model: Any) -> Any:
    return model if isinstance(model, open_clip.CLIP) else model.text


def check_expandable(backbone: OpenClipBackbone) -> None:
    """Raise InputError where the model has parts that X-CLIP has no place for."""
    visual, text = backbone.model.visual, _text_tower(backbone.model)
    _require(isinstance(visual, open_clip.transformer.VisionTransformer), f"its vision is {type(visual).__name__}")
    known = isinstance(text, open_clip.CLIP | open_clip.transformer.TextTransformer)
    _require(known, f"its text tower is {type(text).__name__}")
    _check_blocks(visual.transformer, "vision")
    _check_blocks(text.transformer, "text")
    _require(visual.attn_pool is None and visual.pool_type == "tok", "its image vector is not the class token's")
    _require(isinstance(visual.ln_pre, LayerNorm | LayerNormFp32), "it has no norm before the first vision block")
    _require(visual.grid_size[0] == visual.grid_size[1], "its images are not square")
    pooling = text.text_pool_type if isinstance(text, open_clip.CLIP) else text.pool_type
    causal = text.attn_mask is not None and getattr(text, "cls_emb", None) is None
    _require(pooling == "argmax" and causal, "its text vector is not the end token's under causal attention")
    projection = text.text_projection
    _require(projection is not None and getattr(projection, "bias", None) is None, "its text projection has a bias")
    tokenizer: Any = backbone.tokenizer
    plain = type(tokenizer) is open_clip.SimpleTokenizer and tokenizer.clean_fn is open_clip.tokenizer._clean_lower
    _require(plain and tokenizer.vocab_size == text.vocab_size, "its tokenizer is not CLIP's own")


def xclip_config(backbone: OpenClipBackbone, params: XClipExpansionParams) -> Any:
    """The XCLIPConfig of the X-CLIP around a model; attention heads of the new modules are 64 wide."""
    visual, text, dim = backbone.model.visual, _text_tower(backbone.model), backbone.dim
    heads = dim // _HEAD_WIDTH if dim % _HEAD_WIDTH == 0 else 1

    def tower(transformer: Any) -> dict[str, Any]:
        block = transformer.resblocks[0]
        return {
            "hidden_size": block.ln_1.normalized_shape[0],
            "intermediate_size": block.mlp.c_fc.out_features,
            "num_hidden_layers": len(transformer.resblocks),
            "num_attention_heads": block.attn.num_heads,
            "hidden_act": _activation(block),
            "layer_norm_eps": block.ln_1.eps,
        }

    vision = tower(visual.transformer) | {
        "image_size": visual.image_size[0],
        "patch_size": visual.patch_size[0],
        "num_frames": params.num_frames,
        "mit_hidden_size": dim,
        "mit_intermediate_size": 4 * dim,
        "mit_num_hidden_layers": params.integration_layers,
        "mit_num_attention_heads": heads,
    }
    words = {"vocab_size": text.vocab_size, "max_position_embeddings": text.context_length}
    return XCLIPConfig(
        text_config=tower(text.transformer) | words,
        vision_config=vision,
        projection_dim=dim,
        prompt_layers=params.prompt_layers,
        prompt_num_attention_heads=heads,
    )


def _block_tensors(transformer: Any, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors of CLIP's blocks by X-CLIP's names."""
    tensors: dict[str, torch.Tensor] = {}
    for row, block in enumerate(transformer.resblocks):
        parts = {
            "layer_norm1": block.ln_1,
            "layer_norm2": block.ln_2,
            "self_attn.out_proj": block.attn.out_proj,
            "mlp.fc1": block.mlp.c_fc,
            "mlp.fc2": block.mlp.c_proj,
        }
        named = {f"{name}.{kind}": getattr(part, kind) for name, part in parts.items() for kind in ("weight", "bias")}
        for kind in ("weight", "bias"):
            thirds = getattr(block.attn, f"in_proj_{kind}").chunk(3)
            named |= {f"self_attn.{name}_proj.{kind}": third for name, third in zip("qkv", thirds, strict=True)}
        tensors |= {f"{prefix}.{row}.{name}": value for name, value in named.items()}
    return tensors


def clip_tensors(model: Any) -> dict[str, torch.Tensor]:
    """All of CLIP's tensors by X-CLIP's names."""
    visual, text = model.visual, _text_tower(model)
    projection = text.text_projection
    tensors = {
        "logit_scale": model.logit_scale.reshape(()),
        "vision_model.embeddings.class_embedding": visual.class_embedding,
        "vision_model.embeddings.patch_embedding.weight": visual.conv1.weight,
        "vision_model.embeddings.position_embedding.weight": visual.positional_embedding,
        "visual_projection.weight": visual.proj.T,
        "text_model.embeddings.token_embedding.weight": text.token_embedding.weight,
        "text_model.embeddings.position_embedding.weight": text.positional_embedding,
        "text_projection.weight": projection.weight if isinstance(projection, torch.nn.Linear) else projection.T,
        # New in X-CLIP: patches get to the joint space as CLIP's class token does.
        "prompts_visual_layernorm.weight": visual.ln_post.weight,
        "prompts_visual_layernorm.bias": visual.ln_post.bias,
        "prompts_visual_projection": visual.proj,
    }
    norms = {
        "vision_model.pre_layernorm": visual.ln_pre,
        "vision_model.post_layernorm": visual.ln_post,
        "text_model.final_layer_norm": text.ln_final,
    }
    tensors |= {f"{name}.{kind}": getattr(norm, kind) for name, norm in norms.items() for kind in ("weight", "bias")}
    tensors |= _block_tensors(visual.transformer, "vision_model.encoder.layers")
    return tensors | _block_tensors(text.transformer, "text_model.encoder.layers")


@torch.no_grad()
def _make_neutral(model: Any) -> None:
    model.mit.position_embedding.zero_()
    silent = [part for layer in model.mit.encoder.layers for part in (layer.self_attn.out_proj, layer.mlp.fc2)]
    silent += [part for layer in model.prompts_generator.decoder for part in (layer.cross_attn.proj, layer.mlp[-1])]
    silent += [layer.message_attn.out_proj for layer in model.vision_model.encoder.layers]
    for part in silent:
        part.weight.zero_()
        part.bias.zero_()
    for layer in model.vision_model.encoder.layers:
        torch.nn.init.eye_(layer.message_fc.weight)
        layer.message_fc.bias.zero_()


def clip_tokenizer(tokenizer: Any, context_length: int) -> CLIPTokenizer:
    """CLIP's vocabulary, as open_clip's SimpleTokenizer holds it, as a tokenizer of transformers.

    The ids are the same but for what open_clip repairs in a text first (HTML entities, typographic quotes and
    ligatures, wrongly decoded UTF-8), which transformers takes as it stands.
    """
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(word, word): number for word, number in tokenizer.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=list(tokenizer.bpe_ranks), model_max_length=context_length)


def _preprocessing(backbone: OpenClipBackbone) -> Preprocessing:
    clip = backbone.model.visual.preprocess_cfg
    size = backbone.image_size_px
    _require(clip["interpolation"] in _RESAMPLE, f"its images are resized by {clip['interpolation']}")
    _require(clip["resize_mode"] in ("shortest", "squash"), f"its resize_mode is {clip['resize_mode']}")
    square = {"height": size, "width": size}
    settings = {
        "image_processor_type": "VideoMAEImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size} if clip["resize_mode"] == "shortest" else square,
        "resample": _RESAMPLE[clip["interpolation"]],
        "do_center_crop": True,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(clip["mean"]),
        "image_std": list(clip["std"]),
    }
    return read_preprocessing(settings, image_size_px=size, path=Path(PROCESSOR))


def expand_clip(backbone: OpenClipBackbone, params: XClipExpansionParams) -> XClipBackbone:
    """Build an X-CLIP around a CLIP: its towers' weights, its logit scale, its tokenizer and its pixels.

    Args:
        backbone: a CLIP with a vision transformer and CLIP's own text tower, as `CLIP` or `CustomTextCLIP`.
        params: of the new modules, with the seed of those that are not neutral.

    Raises:
        InputError: the model has parts that X-CLIP has no place for.
    """
    check_expandable(backbone)
    config = xclip_config(backbone, params)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        model = XCLIPModel(config)
    _make_neutral(model)
    missing, unexpected = model.load_state_dict(clip_tensors(backbone.model), strict=False)
    new = ("mit.", "prompts_generator.", "vision_model.encoder.layers.")
    assert not unexpected
    assert all(name.startswith(new) for name in missing)
    tokenizer = clip_tokenizer(backbone.tokenizer, config.text_config.max_position_embeddings)
    return XClipBackbone(model, tokenizer, _preprocessing(backbone), max_tokens=params.max_tokens).eval()
