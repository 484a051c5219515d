"""From stored frames and texts to embeddings, one video at a time.

A video is always one batch, so its embedding does not depend on which videos stand beside it: the memo can
hold it, and adding a video changes no other's bytes.

Shapes: T stored frames of a video, N clips, F frames of a clip, H and W pixels, D embedding dimensions; B texts of a
batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillmotion.backbones.backbone import Backbone, Embeds, mean_clips
from stillmotion.backbones.compute import autocast
from stillmotion.io.arrays import load_array, save_array
from stillmotion.io.memo import Memo
from stillmotion.io.weights import load_tensors, save_tensors
from stillmotion.stage import Progress

FRAMES_A_PASS = 128
TEXTS_A_PASS = 256


@dataclass(frozen=True)
class Embedder:
    """Embeds with one model; what was embedded before comes from the memo."""

    backbone: Embeds
    memo: Memo
    key: dict[str, Any]
    """What decides an embedding beside the frames or texts: weights, code, precision, device."""
    precision: str

    @torch.inference_mode()
    def _embed_texts(self, texts: list[str]) -> np.ndarray:
        with autocast(self.backbone.device, self.precision):
            return self.backbone.text_vectors(texts).float().cpu().numpy()

    def _remembered(self, kind: str, key: dict[str, Any], make: Any) -> tuple[np.ndarray, bool]:
        def load(path: Path) -> np.ndarray:
            return np.array(load_array(path))

        return self.memo.recall(kind, key, make, load=load, save=save_array, suffix=".npy")

    def _remembered_tensors(self, kind: str, key: dict[str, Any], make: Any) -> tuple[dict[str, torch.Tensor], bool]:
        def load(path: Path) -> dict[str, torch.Tensor]:
            return load_tensors(path)[0]

        return self.memo.recall(kind, key, make, load=load, save=save_tensors, suffix=".safetensors")

    def video(
        self,
        frames_THWC: np.ndarray,
        frames_digest: str,
        clips_NF: np.ndarray,
        *,
        single_frames: bool = True,
        times_T: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Unit vectors (T, D) of a video's stored frames and (N, D) of its clips, and whether the memo had them.

        Args:
            frames_THWC: uint8 RGB.
            frames_digest: digest of the same frames, for the memo.
            clips_NF: which of the frames make each clip.
            single_frames: without them the first result is (0, D), unless the clips are means of them.
            times_T: when each frame is shown, in seconds; a video LLM is told.
        """
        # Clips that are means of frames are made anew: other clips of known frames cost no forward pass.
        means = self.backbone.clips_are_means
        single_frames = single_frames or means
        embedded_NF = clips_NF[:0] if means else clips_NF

        def embed() -> np.ndarray:
            with autocast(self.backbone.device, self.precision):
                found = self.backbone.embed_video(
                    frames_THWC, embedded_NF, frames_a_pass=FRAMES_A_PASS, single_frames=single_frames
                )
            return torch.cat(found).float().cpu().numpy()

        key = self.key | {"frames": frames_digest, "clips": embedded_NF.tolist(), "single_frames": single_frames}
        array, remembered = self._remembered("embeddings", key, embed)
        num_single = len(frames_THWC) if single_frames else 0
        frames_TD, clips_ND = array[:num_single], array[num_single:]
        if means:
            clips_ND = mean_clips(torch.from_numpy(frames_TD), clips_NF).numpy()
        return frames_TD, clips_ND, remembered

    def require_tokens(self) -> None:
        """Raise InputError where the model has no embeddings of single tokens, as an alignment needs them."""
        self._embed_tokens(["a"])

    def clip_frames(self, frames_FHWC: np.ndarray, frames_digest: str, clip_F: np.ndarray) -> np.ndarray:
        """Unit vectors (F, D) of the frames of one clip, as they are beside one another.

        Args:
            frames_FHWC: uint8 RGB, those of the clip.
            frames_digest: digest of all stored frames of the video, for the memo.
            clip_F: which of the stored frames they are.
        """

        @torch.inference_mode()
        def embed() -> np.ndarray:
            assert isinstance(self.backbone, Backbone)  # others have been refused by `require_tokens`
            with autocast(self.backbone.device, self.precision):
                found = self.backbone.frame_embeddings(self.backbone.pixels(frames_FHWC)[None])
            return found[0].float().cpu().numpy()

        key = self.key | {"frames": frames_digest, "clips": [clip_F.tolist()]}
        return self._remembered("clip_frames", key, embed)[0]

    @torch.inference_mode()
    def _embed_tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
        with autocast(self.backbone.device, self.precision):
            tokens_BLD, mask_BL = self.backbone.token_embeddings(self.backbone.tokens(texts))
        return {"tokens": tokens_BLD[mask_BL].float().cpu(), "counts": mask_BL.sum(1).cpu()}

    def tokens(self, texts: list[str], label: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The tokens that count, of texts in fixed batches of their order.

        Yields:
            Unit vectors (all tokens, D) of a batch, text after text, and how many each of its texts has: (B,).
        """
        with Progress(f"embedding tokens of {label}", len(texts)) as progress:
            for first in range(0, len(texts), TEXTS_A_PASS):
                batch = texts[first : first + TEXTS_A_PASS]
                key = self.key | {"texts": batch}
                tensors, _ = self._remembered_tensors("tokens", key, lambda b=batch: self._embed_tokens(b))
                yield tensors["tokens"].numpy(), tensors["counts"].numpy()
                progress.advance(len(batch))

    def texts(self, texts: list[str], label: str) -> np.ndarray:
        """Unit vectors (len(texts), D), in fixed batches of their order."""
        passes = [np.zeros((0, self.backbone.dim), np.float32)]
        with Progress(f"embedding {label}", len(texts)) as progress:
            for first in range(0, len(texts), TEXTS_A_PASS):
                batch = texts[first : first + TEXTS_A_PASS]
                array, _ = self._remembered(
                    "embeddings", self.key | {"texts": batch}, lambda b=batch: self._embed_texts(b)
                )
                passes.append(array)
                progress.advance(len(batch))
        return np.concatenate(passes)
