"""Image-language models of open_clip as video models: every frame is embedded, a clip is their mean.

A model folder has open_clip's own hub layout (`open_clip_config.json`, `open_clip_model.safetensors`), so it
loads in open_clip as `local-dir:FOLDER` too; `source.json` beside them says where the weights came from.

Shapes: N frames or texts, B clips, F frames of a clip, H and W pixels, D embedding dimensions, L tokens.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch.nn import functional

from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import write_json
from stillmotion.io.weights import save_tensors

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
SOURCE = "source.json"


class OpenClipBackbone(torch.nn.Module):
    """A CLIP or CoCa of open_clip that embeds frames, clips and texts as unit vectors."""

    model: Any
    """The open_clip model."""
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: Any, tokenizer: Callable[..., torch.Tensor], config: dict[str, Any]):
        super().__init__()
        self.model = model
        preprocess = PreprocessCfg(**model.visual.preprocess_cfg)
        self.config = config
        self.tokenizer = tokenizer
        size = preprocess.size
        self.image_size_px: int = size if isinstance(size, int) else size[0]
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 3, 1, 1), persistent=False)
        self.image_transform: Callable[[Image.Image], torch.Tensor] = image_transform_v2(preprocess, is_train=False)
        """The model's own transform of a whole image, for image queries."""

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def logit_scale(self) -> torch.Tensor:
        """The learned inverse temperature, at most 100 as in CLIP."""
        return self.model.logit_scale.exp().clamp(max=100.0)

    def pixels(self, frames: np.ndarray) -> torch.Tensor:
        """Stored frames as the model's input.

        Args:
            frames: (N, H, W, 3) uint8, RGB, square.

        Returns:
            (N, 3, h, w) float32, normalised with the checkpoint's mean and standard deviation.

        Raises:
            InputError: the stored frames are smaller than the model's input.
        """
        stored, wanted = frames.shape[1], self.image_size_px
        if stored < wanted:
            raise InputError(
                f"params.yaml: sample_frames.size_px is {stored} and this model takes {wanted} px; "
                f"set it to {wanted} or more"
            )
        # A copy: stored frames are mapped read-only, and torch wants to be able to write.
        stored_NCHW = torch.from_numpy(np.array(frames)).to(self.device).permute(0, 3, 1, 2)
        values = stored_NCHW.to(torch.float32, memory_format=torch.contiguous_format)
        if stored > wanted:
            values = functional.interpolate(
                values, size=(wanted, wanted), mode="bicubic", antialias=True, align_corners=False
            ).clamp(0, 255)
        # In place, as a multiply and an add: beside a small model, four passes over new memory cost a tenth.
        return values.mul_(1 / (255 * self.std)).add_(-self.mean / self.std)

    def embed_frames(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, h, w) to unit vectors (N, D)."""
        return functional.normalize(self.model.encode_image(pixels).float(), dim=-1)

    def embed_clips(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, F, 3, h, w) to unit vectors (B, D): the mean of the frames' unit vectors."""
        frames_BFD = self.embed_frames(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
        return functional.normalize(frames_BFD.mean(1), dim=-1)

    def tokens(self, texts: list[str]) -> torch.Tensor:
        """Token ids (N, L); a text longer than the model's context is cut."""
        return self.tokenizer(texts).to(self.device)

    def truncated(self, texts: list[str]) -> np.ndarray:
        """Whether each text is cut: (N,) bool. Cut means that a longer context would hold more of it."""
        length = self.tokenizer(texts[:1]).shape[1]
        longer = self.tokenizer(texts, context_length=length + 1)
        return (longer[:, length] != _padding_id(self.tokenizer)).numpy()

    def embed_texts(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids (N, L) to unit vectors (N, D)."""
        model = self.model
        if type(model) is open_clip.CLIP and model.text_pool_type == "argmax" and model.attn_mask is not None:
            # Behind the end token, attention is causal: cutting the padding changes nothing but the time.
            length = int(tokens.argmax(-1).max()) + 1
            x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
            x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
            x = model.ln_final(x)[torch.arange(len(x), device=x.device), tokens.argmax(-1)]
            projection = model.text_projection
            texts = projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection
        else:
            texts = model.encode_text(tokens)
        return functional.normalize(texts.float(), dim=-1)


def _padding_id(tokenizer: Any) -> int:
    inner = getattr(tokenizer, "tokenizer", None)
    return getattr(inner, "pad_token_id", None) or 0


def save_backbone(
    folder: Path,
    model: torch.nn.Module,
    config: dict[str, Any],
    source: dict[str, Any],
    *,
    tokenizer: Any = None,
) -> None:
    """Write a model folder, whole or not at all; the files of a Hugging Face `tokenizer` go with it."""
    with atomic_folder(folder) as partial:
        write_json(partial / CONFIG, config)
        write_json(partial / SOURCE, source)
        save_tensors(partial / WEIGHTS, model.state_dict())
        if isinstance(tokenizer, open_clip.tokenizer.HFTokenizer):
            tokenizer.tokenizer.save_pretrained(str(partial))


def load_backbone(folder: Path, device: torch.device) -> OpenClipBackbone:
    """Load a model folder, ready for inference.

    Raises:
        InputError: the folder or one of its files is missing.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: no such file; run `dvc repro` or `dvc pull` for {folder.as_posix()}")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    location = f"local-dir:{folder.resolve()}"
    model = open_clip.create_model(location)
    backbone = OpenClipBackbone(model, open_clip.get_tokenizer(location), config)
    return backbone.to(device).eval()
