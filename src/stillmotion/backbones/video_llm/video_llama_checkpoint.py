"""Video-LLaMA as its authors released it, by their names of tensors: a folder of three .pth files and a LLaMA.

`eva_vit_g.pth` is the tower, `blip2_pretrained_flant5xxl.pth` the Q-Former of frames, the third one, of any name, what
they trained: frame positions, the video Q-Former and the linear map. A folder beside them, of any name, is the LLaMA in
the hub's layout that it was trained with. A later file overrides an earlier one, as where they load them.

Source: names and order of loading from DAMO-NLP-SG/Video-LLaMA, video_llama/models/video_llama.py.
"""

import pickle
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from stillmotion.backbones.video_llm.video_llama_model import VideoLlama, VideoLlamaConfig
from stillmotion.errors import InputError
from stillmotion.io.tables import read_json

TOWER = "eva_vit_g.pth"
FRAME_QUERIES = "blip2_pretrained_flant5xxl.pth"
HEAD_WIDTHS = {"vision": 88, "qformer": 64}
"""Of EVA's ViT-g and of BERT: heads can't be read off a tensor."""
TOWER_BLOCKS = 39
"""Of the tower's 40: its authors read one less."""
TOWER_NAMES = [
    (r"cls_token", "embeddings.class_embedding"),
    (r"pos_embed", "embeddings.position_embedding"),
    (r"patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"blocks\.(\d+)\.norm([12])\.", r"encoder.layers.\1.layer_norm\2."),
    (r"blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"blocks\.(\d+)\.attn\.[qv]_bias$", r"encoder.layers.\1.self_attn.qkv.bias"),
    (r"blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
]
QFORMER_NAMES = [
    (r"bert\.embeddings\.LayerNorm\.", "layernorm."),
    (r"bert\.encoder\.layer\.(\d+)\.(attention|crossattention)\.self\.", r"encoder.layer.\1.\2.attention."),
    (r"bert\.encoder\.layer\.", "encoder.layer."),
]
OTHER_NAMES = [
    (r"ln_vision\.", "vision_model.post_layernorm."),
    (r"query_tokens$", "query_tokens"),
    (r"video_query_tokens$", "video_query_tokens"),
    (r"video_frame_position_embedding\.", "frame_positions."),
    (r"llama_proj\.", "language_projection."),
    (r"llama_model\.model\.", "language_model."),
    (r"llama_model\.lm_head\.", "lm_head."),
]


@dataclass(frozen=True)
class Released:
    """What was read of a released folder."""

    model: VideoLlama
    unused: list[str]
    """Tensors without a place: of the audio branch, of heads but LLaMA's, and of blocks above those that are read."""
    language_folder: Path


def is_released(folder: Path) -> bool:
    """Whether a folder holds the authors' files."""
    return (folder / TOWER).is_file()


def our_name(released: str) -> str:
    """The name in `VideoLlama` of a tensor of the authors'; unknown ones stay as they are.

    `video_Qformer.bert.encoder.layer.0.attention.self.query.weight` is
    `video_qformer.encoder.layer.0.attention.attention.query.weight`.
    """
    for prefix, place, names in (
        ("visual_encoder.", "vision_model.", TOWER_NAMES),
        ("Qformer.", "qformer.", QFORMER_NAMES),
        ("video_Qformer.", "video_qformer.", QFORMER_NAMES),
        ("", "", OTHER_NAMES),
    ):
        if released.startswith(prefix):
            for pattern, ours in names:
                name, count = re.subn(rf"^{pattern}", ours, released.removeprefix(prefix))
                if count:
                    return place + name
    return released


def _read_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not weights of torch ({reason:.160}); fetch it again") from None
    found = found.get("model", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise InputError(f"{path}: not tensors by their names; fetch it again")
    return found


def _with_biases_joined(tower: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Queries and values have a bias, keys none: transformers keeps one vector of all three."""
    joined = dict(tower)
    for name in [name for name in tower if name.endswith(".attn.q_bias")]:
        stem = name.removesuffix("q_bias")
        queries, values = joined.pop(name), joined.pop(f"{stem}v_bias")
        joined[f"{stem}qkv.bias"] = torch.cat([queries, torch.zeros_like(values), values])
    return joined


def _layers(names: set[str], prefix: str) -> int:
    numbers = [int(name.removeprefix(prefix).split(".")[0]) for name in names if name.startswith(prefix)]
    return 1 + max(numbers, default=-1)


def _configured(tensors: dict[str, torch.Tensor], text: LlamaConfig) -> VideoLlamaConfig:
    """Sizes read off the tensors."""
    patches = tensors["vision_model.embeddings.patch_embedding.weight"]
    positions = tensors["vision_model.embeddings.position_embedding"].shape[1] - 1
    names = set(tensors)
    width = patches.shape[0]
    vision = {
        "hidden_size": width,
        "intermediate_size": tensors["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": min(TOWER_BLOCKS, _layers(names, "vision_model.encoder.layers.")),
        "num_attention_heads": width // HEAD_WIDTHS["vision"],
        "patch_size": patches.shape[-1],
        "image_size": round(positions**0.5) * patches.shape[-1],
    }

    def qformer(prefix: str) -> dict[str, int]:
        own = tensors[f"{prefix}.layernorm.weight"].shape[0]
        return {
            "hidden_size": own,
            "intermediate_size": tensors[f"{prefix}.encoder.layer.0.intermediate_query.dense.weight"].shape[0],
            "num_hidden_layers": _layers(names, f"{prefix}.encoder.layer."),
            "num_attention_heads": own // HEAD_WIDTHS["qformer"],
        }

    return VideoLlamaConfig(
        vision_config=vision,
        qformer_config=qformer("qformer"),
        video_qformer_config=qformer("video_qformer"),
        text_config=text.to_dict(),
        num_query_tokens=tensors["query_tokens"].shape[1],
        num_video_query_tokens=tensors["video_query_tokens"].shape[1],
        max_frames=tensors["frame_positions.weight"].shape[0],
    )


def read_released(folder: Path) -> Released:
    """A Video-LLaMA of the files its authors released.

    Raises:
        InputError: a file is missing or damaged, or lacks tensors; one line that names it.
    """
    trained = sorted(path for path in folder.glob("*.pth") if path.name not in (TOWER, FRAME_QUERIES))
    languages = sorted(path.parent for path in folder.glob("*/config.json"))
    if len(trained) != 1 or len(languages) != 1 or not (folder / FRAME_QUERIES).is_file():
        raise InputError(
            f"{folder}: a released Video-LLaMA is {TOWER}, {FRAME_QUERIES}, one more .pth (of the vision branch) and "
            "one folder of a LLaMA in the hub's layout; put them there, and nothing else"
        )
    settings = read_json(languages[0] / "config.json")
    if settings.get("model_type") != "llama":
        raise InputError(
            f"{languages[0] / 'config.json'}: model_type is {settings.get('model_type')!r}; take the LLaMA that it was "
            "trained with"
        )
    tower = {f"visual_encoder.{name}": value for name, value in _read_file(folder / TOWER).items()}
    released = tower | _read_file(folder / FRAME_QUERIES) | _read_file(trained[0])
    tensors = {our_name(name): value for name, value in _with_biases_joined(released).items()}
    try:
        config = _configured(tensors, LlamaConfig.from_dict(settings))
    except KeyError as error:
        raise InputError(f"{folder}: its files lack {error.args[0]!r}; take all of one release, whole") from None
    with torch.device("meta"):
        model = VideoLlama(config)
    return _filled(model, tensors, released, languages[0])


def _filled(
    model: VideoLlama, tensors: dict[str, torch.Tensor], released: Iterable[str], language_folder: Path
) -> Released:
    # it has two kinds of results, which types can't tell apart
    causal: Any = LlamaForCausalLM
    try:
        language, report = causal.from_pretrained(
            language_folder, dtype="auto", local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{language_folder}: no weights of a LLaMA ({reason:.160}); fetch it again") from None
    if absent := sorted(report["missing_keys"]):
        raise InputError(
            f"{language_folder}: its weights lack {len(absent)} tensors, {absent[0]!r} first; take all of one release"
        )
    model.language_model = language.model
    model.lm_head.weight = nn.Parameter(language.lm_head.weight.detach().clone())
    wanted = model.state_dict()
    folder = language_folder.parent
    for name in sorted(wanted.keys() & tensors.keys()):
        there, needed = tuple(tensors[name].shape), tuple(wanted[name].shape)
        if there != needed:
            raise InputError(
                f"{folder}: {name} is {there} where {needed} is needed; take all files of one release, and the LLaMA "
                "it was trained with"
            )
    missing = sorted(
        name for name in wanted if name not in tensors and not name.startswith(("language_model.", "lm_head."))
    )
    if missing:
        raise InputError(
            f"{folder}: its files lack {len(missing)} tensors, {missing[0]!r} first; take all of one release"
        )
    found = {name: value.float() for name, value in tensors.items() if name in wanted}
    model.load_state_dict(found, strict=False, assign=True)
    unused = sorted(name for name in released if our_name(name) not in wanted)
    return Released(model.eval(), unused, language_folder)
