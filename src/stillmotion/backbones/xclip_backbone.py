"""X-CLIP of transformers: frames that see one another, integrated over a clip of a fixed number of frames.

Source: Ni et al. 2022, "Expanding Language-Image Pretrained Models for General Video Recognition"; METHODS.md
section 3 decides what its documents leave open.

A model folder has the hub's layout (`config.json`, `model.safetensors`, `preprocessor_config.json`, the files of
the tokenizer), so transformers loads it too; beside them are `source.json` and `xclip.json`, which holds the
number of tokens that texts are cut to.

Shapes: N frames or texts, B clips, F frames of a clip, T stored frames of a video, G groups of F frames,
H and W pixels, D embedding dimensions, L tokens, P patches.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torchvision.transforms.v2.functional import resize
from transformers import CLIPTokenizer, XCLIPModel

from stillmotion.backbones import family_files
from stillmotion.backbones.backbone import Backbone, Layers
from stillmotion.backbones.xclip_processor import Preprocessing
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import write_json
from stillmotion.io.weights import save_tensors
from stillmotion.video.sampling import frame_groups

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PROCESSOR = "preprocessor_config.json"
SETTINGS = family_files.XCLIP
SOURCE = "source.json"


class XClipBackbone(Backbone):
    """An X-CLIP that embeds clips of its own number of frames; the texts do not depend on the video."""

    model: Any
    """transformers' XCLIPModel."""
    clip_frames: int
    has_contexts = True

    def __init__(self, model: XCLIPModel, tokenizer: CLIPTokenizer, preprocessing: Preprocessing, *, max_tokens: int):
        """Wrap a model.

        Args:
            model: with its weights.
            tokenizer: of its vocabulary.
            preprocessing: of its processor file.
            max_tokens: a text is cut to this many, start and end included.

        Raises:
            InputError: max_tokens is more than the model's context.
        """
        super().__init__()
        config: Any = model.config
        context = config.text_config.max_position_embeddings
        if max_tokens > context:
            raise InputError(f"params.yaml: max_tokens is {max_tokens} and this X-CLIP's context {context}; set fewer")
        self.model = model
        self.tokenizer = tokenizer
        self.preprocessing = preprocessing
        self.max_tokens = max_tokens
        self.image_size_px = config.vision_config.image_size
        self.clip_frames = config.vision_config.num_frames
        self.dim = config.projection_dim
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)
        self.image_transform = preprocessing.image_transform()
        # Part of the model and of its file, but no unconditional embedding passes through them: an optimizer would
        # only let them decay.
        for parameter in self.conditional_parameters():
            parameter.requires_grad_(False)
        model.vision_model.embeddings.patch_dropout = torch.nn.Identity()
        model.vision_model.embeddings.register_forward_hook(_drop_patches)

    def conditional_parameters(self) -> list[torch.nn.Parameter]:
        """The parameters that only texts that depend on the video need; they are not trained."""
        parts = (self.model.prompts_visual_layernorm, self.model.prompts_generator)
        return [self.model.prompts_visual_projection, *(value for part in parts for value in part.parameters())]

    def pixels(self, frames: np.ndarray) -> torch.Tensor:
        """As every backbone's; larger frames are first resized as the checkpoint's processor does it, to 8 bits."""
        size_px = self.image_size_px
        if frames.shape[1] > size_px:
            frames_NCHW = torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2)
            small_NCHW = resize(frames_NCHW, [size_px, size_px], self.preprocessing.interpolation, antialias=True)
            frames = small_NCHW.permute(0, 2, 3, 1).numpy()
        return super().pixels(frames)

    def _flat(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, F, 3, h, w) as (B · F, 3, h, w), where F is the model's number."""
        if pixels.shape[1] != self.clip_frames:
            raise InputError(
                f"this X-CLIP takes clips of {self.clip_frames} frames, not {pixels.shape[1]}; "
                f"set num_frames to {self.clip_frames}, or take a checkpoint of {pixels.shape[1]} frames"
            )
        return pixels.flatten(0, 1)

    def frame_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Clips (B, F, 3, h, w) to the frames' vectors before they are integrated: (B, F, D).

        What is added to them then is a residual, so they lie in the space of the clips and texts.
        """
        pooled = self.model.vision_model(pixel_values=self._flat(pixels)).pooler_output
        return self.model.visual_projection(pooled).unflatten(0, pixels.shape[:2])

    def embed_clips(self, pixels: torch.Tensor) -> torch.Tensor:
        clips_BD = self.model.mit(self.frame_features(pixels)).pooler_output
        return functional.normalize(clips_BD.float(), dim=-1)

    @torch.inference_mode()
    def embed_video(
        self, frames_THWC: np.ndarray, clips_NF: np.ndarray, *, frames_a_pass: int, single_frames: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A frame is embedded beside its neighbours, as it attends to them; a clip by itself."""
        clips_a_pass = max(1, frames_a_pass // self.clip_frames)

        def batches(runs_GF: np.ndarray) -> list[torch.Tensor]:
            passes = [runs_GF[first : first + clips_a_pass] for first in range(0, len(runs_GF), clips_a_pass)]
            return [self.pixels(frames_THWC[runs.ravel()]).unflatten(0, runs.shape) for runs in passes]

        none = torch.empty(0, self.dim, device=self.device)
        clips_ND = torch.cat([none, *(self.embed_clips(pixels) for pixels in batches(clips_NF))])
        if not single_frames:
            return none, clips_ND
        groups_GF = frame_groups(len(frames_THWC), self.clip_frames)
        frames_ND = torch.cat([self.frame_features(pixels).flatten(0, 1).float() for pixels in batches(groups_GF)])
        first_of_T = np.unique(groups_GF.ravel(), return_index=True)[1]
        return functional.normalize(frames_ND[torch.from_numpy(first_of_T).to(self.device)], dim=-1), clips_ND

    @property
    def context_shape(self) -> tuple[int, int]:
        """(P, D) of `contexts`."""
        return self.model.vision_model.embeddings.num_patches, self.dim

    def contexts(self, pixels: torch.Tensor) -> torch.Tensor:
        """Clips (B, F, 3, h, w) to what makes a text depend on them: patches averaged over frames, (B, P, D)."""
        patches = self.model.vision_model(pixel_values=self._flat(pixels)).last_hidden_state[:, 1:]
        projected = self.model.prompts_visual_layernorm(patches) @ self.model.prompts_visual_projection
        return projected.unflatten(0, pixels.shape[:2]).float().mean(1)

    def _token_lists(self, texts: list[str], max_tokens: int) -> list[list[int]]:
        return self.tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"] if texts else []

    def tokens(self, texts: list[str]) -> torch.Tensor:
        """Token ids (N, L), as long as the longest text; one of more than `max_tokens` is cut before its end token.

        Attention is causal, so the padding, which repeats the end token, changes nothing.
        """
        rows = [torch.tensor(row) for row in self._token_lists(texts, self.max_tokens)]
        return pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.eos_token_id).to(self.device)

    def truncated(self, texts: list[str]) -> np.ndarray:
        lengths = [len(row) for row in self._token_lists(texts, self.max_tokens + 1)]
        return np.array(lengths, dtype=np.int64) > self.max_tokens

    def text_features(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids (N, L) to vectors (N, D) of their own length."""
        return self.model.get_text_features(input_ids=tokens).pooler_output

    def embed_texts(self, tokens: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.text_features(tokens).float(), dim=-1)

    def layers(self) -> Layers:
        vision, text = self.model.vision_model, self.model.text_model
        embeddings = [*vision.embeddings.parameters(), *text.embeddings.parameters()]
        # The norm before the first block belongs to the embeddings: were it trained, the gradient would have to
        # pass through all frozen blocks above it.
        embeddings += vision.pre_layernorm.parameters()
        towers = [[list(block.parameters()) for block in tower.encoder.layers] for tower in (vision, text)]
        return Layers(embeddings, towers)

    def set_patch_dropout(self, dropout: torch.nn.Module) -> None:
        self.model.vision_model.embeddings.patch_dropout = dropout

    def save(self, folder: Path, source: dict[str, Any]) -> None:
        # The tokenizer would write down how it last cut a text, and how it was opened.
        self.tokenizer.backend_tokenizer.no_truncation()
        for name in ("is_local", "local_files_only"):
            self.tokenizer.init_kwargs.pop(name, None)
        with atomic_folder(folder) as partial:
            write_json(partial / CONFIG, json.loads(self.model.config.to_json_string()))
            write_json(partial / PROCESSOR, dict(self.preprocessing.settings))
            write_json(partial / SETTINGS, {"max_tokens": self.max_tokens})
            write_json(partial / SOURCE, source)
            save_tensors(partial / WEIGHTS, self.model.state_dict())
            self.tokenizer.save_pretrained(str(partial))


def _drop_patches(embeddings: Any, inputs: Any, tokens: torch.Tensor) -> torch.Tensor:
    # The forward hook of a module that has positions added and no norm yet; a function, so that a copy of the model
    # drops with its own module.
    return embeddings.patch_dropout(tokens)
