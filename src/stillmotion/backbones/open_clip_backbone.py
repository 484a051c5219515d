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
from torch.nn import functional

from stillmotion.backbones import family_files
from stillmotion.backbones.backbone import Backbone, Layers, mean_clips
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import write_json
from stillmotion.io.weights import save_tensors

CONFIG = family_files.OPEN_CLIP
WEIGHTS = "open_clip_model.safetensors"
SOURCE = "source.json"
LANES = 16
"""Sums over tokens go so many at a time, at most: padding in whole steps adds zeros to them, and moves no bit."""
_CLIP_TEXT = ("token_embedding", "positional_embedding", "transformer.", "ln_final", "text_projection")
"""How names of the text tower's parameters begin where the tower is no module of its own."""


class OpenClipBackbone(Backbone):
    """A CLIP or CoCa of open_clip that embeds frames, clips and texts as unit vectors."""

    model: Any
    """The open_clip model."""
    clip_frames = None
    clips_are_means = True

    def __init__(self, model: Any, tokenizer: Callable[..., torch.Tensor], config: dict[str, Any]):
        super().__init__()
        self.model = model
        preprocess = PreprocessCfg(**model.visual.preprocess_cfg)
        self.config = config
        self.tokenizer = tokenizer
        size = preprocess.size
        self.image_size_px = size if isinstance(size, int) else size[0]
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 3, 1, 1), persistent=False)
        self.image_transform = image_transform_v2(preprocess, is_train=False)
        self.dim = int(model.visual.output_dim)

    def embed_frames(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, h, w) to unit vectors (N, D)."""
        return functional.normalize(self.model.encode_image(pixels).float(), dim=-1)

    def frame_embeddings(self, pixels: torch.Tensor) -> torch.Tensor:
        """Clips (B, F, 3, h, w) to unit vectors of their frames, each by itself: (B, F, D)."""
        return self.embed_frames(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])

    def embed_clips(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, F, 3, h, w) to unit vectors (B, D): the mean of the frames' unit vectors."""
        return functional.normalize(self.frame_embeddings(pixels).mean(1), dim=-1)

    @torch.inference_mode()
    def embed_video(
        self, frames_THWC: np.ndarray, clips_NF: np.ndarray, *, frames_a_pass: int, single_frames: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Every frame is embedded once; a clip is the mean of its frames."""
        frames_TD = torch.cat(
            [
                self.embed_frames(self.pixels(frames_THWC[first : first + frames_a_pass]))
                for first in range(0, len(frames_THWC), frames_a_pass)
            ]
        )
        return frames_TD if single_frames else frames_TD[:0], mean_clips(frames_TD, clips_NF)

    def tokens(self, texts: list[str]) -> torch.Tensor:
        return self.tokenizer(texts).to(self.device)

    def truncated(self, texts: list[str]) -> np.ndarray:
        """Whether each text is cut: a longer context would hold more of it."""
        if not texts:  # tokenizers of transformers take no empty list
            return np.zeros(0, dtype=bool)
        cut = self.tokenizer(texts)
        length = cut.shape[1]
        longer = self.tokenizer(texts, context_length=length + 1)
        # Where the text's end is told as padding is, it shows in the word that had to give way to it.
        goes_on = (longer[:, length] != _padding_id(self.tokenizer)) | (longer[:, :length] != cut).any(1)
        return goes_on.numpy()

    def embed_texts(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._embed_texts(tokens, 1)

    def text_vectors(self, texts: list[str]) -> torch.Tensor:
        """Unit vectors (N, D) of texts: on a CPU what open_clip makes of the whole context, to the bit."""
        return self._embed_texts(self.tokens(texts), LANES)

    def _embed_texts(self, tokens: torch.Tensor, multiple_of: int) -> torch.Tensor:
        if self._cuts_padding():
            x = self._token_states(tokens, multiple_of)
            texts = _project(self.model, x[torch.arange(len(x), device=x.device), tokens.argmax(-1)])
        else:
            texts = self.model.encode_text(tokens)
        return functional.normalize(texts.float(), dim=-1)

    def _cuts_padding(self) -> bool:
        model = self.model
        return type(model) is open_clip.CLIP and model.text_pool_type == "argmax" and model.attn_mask is not None

    def _token_states(self, tokens: torch.Tensor, multiple_of: int = 1) -> torch.Tensor:
        """Token ids (N, context) to what the text tower makes of them, up to the longest text's end, or a multiple."""
        end = int(tokens.argmax(-1).max()) + 1  # the end token has the highest number
        length = min(-(-end // multiple_of) * multiple_of, tokens.shape[1])
        model = self.model
        if not self._cuts_padding():
            found = model.forward_intermediates(
                text=tokens, text_indices=1, normalize_intermediates=True, intermediates_only=True
            )
            return found["text_intermediates"][-1][:, :length]
        # Behind the end token, attention is causal: cutting the padding changes nothing but the time.
        x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
        return model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))

    def token_embeddings(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids (N, context) to unit vectors of the tokens (N, L, D), and which are no padding: (N, L) bool.

        L is the length of the longest text, start and end included. The vector of the end token is the text's own in
        a CLIP; a CoCa reads its texts from a class token, which is none of these.

        Raises:
            InputError: the text tower is not CLIP's or CoCa's, so where a text ends is not known.
        """
        text = self._text_tower()
        pooling = getattr(text, "text_pool_type", None) or getattr(text, "pool_type", None)
        if pooling != "argmax":
            raise InputError(
                f"embeddings of single tokens are known for CLIP's own text transformer, not for a "
                f"{type(text).__name__} that pools by {pooling!r}; choose another backbone"
            )
        states_NLW = self._token_states(tokens)
        places_L = torch.arange(states_NLW.shape[1], device=tokens.device)
        return functional.normalize(_project(text, states_NLW).float(), dim=-1), places_L <= tokens.argmax(-1)[:, None]

    def _text_tower(self) -> Any:
        """The module that has the text's parts: the model itself in open_clip's first kind of CLIP."""
        return self.model if isinstance(self.model, open_clip.CLIP) else self.model.text

    def text_parameters(self) -> list[torch.nn.Parameter]:
        text = self._text_tower()
        prefixes = _CLIP_TEXT if text is self.model else ("",)
        return [parameter for name, parameter in text.named_parameters() if name.startswith(prefixes)]

    def layers(self) -> Layers:
        visual = self.model.visual
        text = self._text_tower()
        known = (open_clip.CLIP, open_clip.transformer.TextTransformer, open_clip.transformer.VisionTransformer)
        for tower in (visual, text):
            if not isinstance(tower, known):
                raise InputError(
                    f"freezing knows open_clip's own vision and text transformers, not {type(tower).__name__}; "
                    "set freeze_embeddings: false and frozen_blocks: 0, or choose another backbone"
                )
        embeddings = [visual.class_embedding, visual.positional_embedding, *visual.conv1.parameters()]
        # The norm before the first block belongs to the embeddings: were it trained, the gradient would have to
        # pass through all frozen blocks above it.
        embeddings += visual.ln_pre.parameters()
        embeddings += [text.positional_embedding, *text.token_embedding.parameters()]
        if getattr(text, "cls_emb", None) is not None:  # CoCa's text has a class token too
            embeddings.append(text.cls_emb)
        towers = [[list(block.parameters()) for block in tower.transformer.resblocks] for tower in (visual, text)]
        return Layers(embeddings, towers)

    def set_patch_dropout(self, dropout: torch.nn.Module) -> None:
        visual = self.model.visual
        if not isinstance(visual, open_clip.transformer.VisionTransformer) and getattr(dropout, "keep_rate", 1.0) < 1:
            raise InputError(
                f"params.yaml: patch dropout knows open_clip's own vision transformer, not {type(visual).__name__}; "
                "set patch_keep_rate: 1.0, or choose another backbone"
            )
        visual.patch_dropout = dropout

    def save(self, folder: Path, source: dict[str, Any]) -> None:
        save_backbone(folder, self.model, self.config, source, tokenizer=self.tokenizer)


def _project(text: Any, states: torch.Tensor) -> torch.Tensor:
    projection = text.text_projection
    return projection(states) if isinstance(projection, torch.nn.Linear) else states @ projection


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


def load_open_clip(folder: Path, device: torch.device) -> OpenClipBackbone:
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
