"""Folders of video LLMs in the hub's layout, as small as their classes allow, with tokenizers of single letters."""

import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, processors
from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
    VideoLlama3Config,
    VideoLlama3ForConditionalGeneration,
    VideoLlama3ImageProcessor,
    VideoLlama3Processor,
    VideoLlama3VideoProcessor,
)
from transformers.models.smolvlm import processing_smolvlm

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.backbones.video_llm.builtin import BuiltinVideoLLM, expand_video_llm
from stillmotion.config.models import BuiltinBackboneParams, BuiltinVideoLLMParams
from stillmotion.training.builtin import new_builtin

processing_smolvlm.num2words = processing_smolvlm.num2words or str  # of a package that is not installed

VOCABULARY = 99
CHARACTERS = string.ascii_letters + string.digits + " .,:;!?<>_-'\"()\n"
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
SPECIAL += ["<|image_pad|>", "<|video_pad|>", "<image>", "<video>", "<fake_token_around_image>", "<global-img>"]
IDS = {token: place for place, token in enumerate([*SPECIAL, *CHARACTERS])}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'video' %}VIDEO{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MEMBERS = ("video_llama_3", "qwen2_vl", "qwen3_vl", "smolvlm", "llava_onevision", "llava_next")
LLM: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer(*, begins: bool = True) -> PreTrainedTokenizerFast:
    """Letters, digits and signs, each a token; with `begins` it puts <s> before a text, as LLaMA's does."""
    backend = Tokenizer(models.BPE(vocab=IDS, merges=[], unk_token="<unk>"))
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(SPECIAL)
    if begins:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names, model_input_names=["input_ids", "attention_mask"])


def _qwen_like(video_token: str) -> str:
    return TEMPLATE.replace("VIDEO", video_token)


def configured(
    member: str, llm: dict[str, Any] = LLM, vision: dict[str, Any] = VISION, size_px: int = 28, scale_factor: int = 2
) -> tuple[Any, Any, Any]:
    """The class of a member, its configuration, the smallest there is unless told otherwise, and its processor."""
    llm = LLM | llm
    text = tokenizer()
    if member == "video_llama_3":
        size = {"shortest_edge": size_px**2, "longest_edge": 16 * size_px**2}
        video = VideoLlama3VideoProcessor(size=size)
        processor = VideoLlama3Processor(
            VideoLlama3ImageProcessor(), text, video, chat_template=_qwen_like("<|video_pad|>")
        )
        ids = {"image_token_id": IDS["<|image_pad|>"], "video_token_id": IDS["<|video_pad|>"]}
        config = VideoLlama3Config(
            text_config={"model_type": "qwen2", **llm}, vision_config={"patch_size": 14, **vision}, **ids
        )
        kind: Any = VideoLlama3ForConditionalGeneration
    elif member == "qwen2_vl":
        video = Qwen2VLVideoProcessor(size={"shortest_edge": size_px**2, "longest_edge": 4 * 4 * size_px**2})
        processor = Qwen2VLProcessor(Qwen2VLImageProcessor(), text, video, chat_template=_qwen_like("<|video_pad|>"))
        ids = {"image_token_id": IDS["<|image_pad|>"], "video_token_id": IDS["<|video_pad|>"]}
        ids |= {"vision_start_token_id": IDS["<|vision_start|>"], "vision_end_token_id": IDS["<|vision_end|>"]}
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
        tower = {
            "depth": vision["num_hidden_layers"],
            "num_heads": vision["num_attention_heads"],
            "embed_dim": vision["hidden_size"],
            "hidden_size": llm["hidden_size"],
        }
        config = Qwen2VLConfig(text_config={**llm, "rope_parameters": rope}, vision_config=tower, **ids)
        kind = Qwen2VLForConditionalGeneration
    elif member == "qwen3_vl":
        size = {"shortest_edge": 2 * 32**2, "longest_edge": 16 * 64**2}
        video = Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=False)
        images = Qwen2VLImageProcessor(patch_size=16)
        processor = Qwen3VLProcessor(images, text, video, chat_template=_qwen_like("<|video_pad|>"))
        ids = {"image_token_id": IDS["<|image_pad|>"], "video_token_id": IDS["<|video_pad|>"]}
        ids |= {"vision_start_token_id": IDS["<|vision_start|>"], "vision_end_token_id": IDS["<|vision_end|>"]}
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
        tower = {
            "depth": vision["num_hidden_layers"],
            "num_heads": vision["num_attention_heads"],
            "hidden_size": vision["hidden_size"],
            "intermediate_size": vision["intermediate_size"],
            "out_hidden_size": llm["hidden_size"],
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        }
        config = Qwen3VLConfig(text_config={**llm, "head_dim": 8, "rope_parameters": rope}, vision_config=tower, **ids)
        kind = Qwen3VLForConditionalGeneration
    elif member == "smolvlm":
        patches = (size_px // vision.get("patch_size", 14)) ** 2
        size = {"longest_edge": 2 * size_px}
        video = SmolVLMVideoProcessor(size=size, max_image_size={"longest_edge": size_px})
        images = SmolVLMImageProcessor(size=size, max_image_size={"longest_edge": size_px})
        processor = SmolVLMProcessor(
            images, text, video, image_seq_len=patches // scale_factor**2, chat_template=_qwen_like("<video>")
        )
        config = SmolVLMConfig(
            text_config={"model_type": "llama", **llm},
            vision_config={"image_size": size_px, "patch_size": 14, **vision},
            image_token_id=IDS["<image>"],
            scale_factor=scale_factor,
        )
        kind = SmolVLMForConditionalGeneration
    elif member == "llava_next":
        pinpoints = [[2 * size_px, size_px], [size_px, 2 * size_px], [2 * size_px, 2 * size_px]]
        processor = LlavaNextProcessor(
            LlavaNextImageProcessor(
                size={"shortest_edge": size_px},
                crop_size={"height": size_px, "width": size_px},
                image_grid_pinpoints=pinpoints,
            ),
            text,
            patch_size=14,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=_qwen_like("<image>").replace("part.type == 'video'", "part.type == 'image'"),
        )
        config = LlavaNextConfig(
            text_config={"model_type": "llama", **llm},
            vision_config={"model_type": "clip_vision_model", "image_size": size_px, "patch_size": 14, **vision},
            image_token_index=IDS["<image>"],
            image_grid_pinpoints=pinpoints,
        )
        kind = LlavaNextForConditionalGeneration
    else:
        size = {"height": size_px, "width": size_px}
        processor = LlavaOnevisionProcessor(
            LlavaOnevisionImageProcessor(size=size),
            text,
            LlavaOnevisionVideoProcessor(size=size),
            num_image_tokens=(size_px // 14) ** 2,
            vision_feature_select_strategy="full",
            chat_template=_qwen_like("<video>"),
        )
        config = LlavaOnevisionConfig(
            text_config={"model_type": "qwen2", **llm},
            vision_config={
                "model_type": "siglip_vision_model",
                "image_size": size_px,
                "patch_size": 14,
                "vision_use_head": False,
                **vision,
            },
            image_token_index=IDS["<image>"],
            video_token_index=IDS["<video>"],
        )
        kind = LlavaOnevisionForConditionalGeneration
    return kind, config, processor


def write(member: str, folder: Path, *, weights: bool = True, **settings: Any) -> Path:
    """A folder in the hub's layout: configuration, weights where wanted, tokenizer, processors and chat template."""
    kind, config, processor = configured(member, **settings)
    processor.save_pretrained(folder)
    if not weights:
        config.save_pretrained(folder)
        return folder
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config)
        for parameter in model.parameters():  # initial ones are so small that every layer would look like the last
            torch.nn.init.normal_(parameter, std=0.3) if parameter.dim() > 1 else None
    model.save_pretrained(folder)
    return folder


SETTINGS: dict[str, Any] = {
    "num_frames": 4,
    "prompt": "{video}\nwhat happens?",
    "text_prompt": "{text}",
    "system": "",
    "chat_template": "own",
    "text_chat_template": "none",
    "max_tokens": 64,
    "precision": "fp32",
    "layer": "last",
    "pooling": "mean",
    "layers": "all",
    "poolings": ["first", "max", "mean", "sum", "last_token"],
    "keep_tokens_of": None,
}
"""Of a video LLM: the report's way, with the texts bare."""


def small_clip() -> OpenClipBackbone:
    """A CLIP of 16-pixel frames and 8 columns."""
    sizes = {"image_size_px": 16, "patch_size_px": 4, "width": 32, "layers": 1, "text_layers": 1, "heads": 2}
    training = {"steps": 1, "batch_size": 2, "learning_rate": 1e-3, "weight_decay": 0.1, "warmup_fraction": 0.1}
    params = BuiltinBackboneParams(family="builtin", embed_dim=8, max_sentences=1, seed=0, **sizes, **training)
    return new_builtin(params).eval()


def builtin() -> BuiltinVideoLLM:
    """The built-in video LLM behind it, as wide as the others here."""
    settings = SETTINGS | {"chat_template": "none", "width": 32, "blocks": 2, "heads": 2, "mlp_width": 24, "seed": 0}
    return expand_video_llm(small_clip(), BuiltinVideoLLMParams(family="builtin_video_llm", **settings))
