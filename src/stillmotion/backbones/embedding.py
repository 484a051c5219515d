"""From stored frames and texts to embeddings, one video at a time.

A video is always one batch, so its embedding does not depend on which videos stand beside it: the memo can
hold it, and adding a video changes no other's bytes.

Shapes: T stored frames of a video, C clips, F frames of a clip, D embedding dimensions.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillmotion.backbones.compute import autocast
from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.io.arrays import load_array
from stillmotion.memo import Memo
from stillmotion.stage import Progress

FRAMES_A_PASS = 128
TEXTS_A_PASS = 256


@dataclass(frozen=True)
class Embedder:
    """Embeds with one model; what was embedded before comes from the memo."""

    backbone: OpenClipBackbone
    memo: Memo
    key: dict[str, Any]
    """What decides an embedding beside the frames or texts: weights, code, precision, device."""
    precision: str

    @property
    def dim(self) -> int:
        """D."""
        return int(self.backbone.model.visual.output_dim)

    @torch.inference_mode()
    def _embed_frames(self, frames_THWC: np.ndarray) -> np.ndarray:
        passes = []
        with autocast(self.backbone.device, self.precision):
            for first in range(0, len(frames_THWC), FRAMES_A_PASS):
                pixels = self.backbone.pixels(frames_THWC[first : first + FRAMES_A_PASS])
                passes.append(self.backbone.embed_frames(pixels).float().cpu().numpy())
        return np.concatenate(passes)

    @torch.inference_mode()
    def _embed_texts(self, texts: list[str]) -> np.ndarray:
        with autocast(self.backbone.device, self.precision):
            return self.backbone.embed_texts(self.backbone.tokens(texts)).float().cpu().numpy()

    def _remembered(self, kind: str, key: dict[str, Any], make: Any) -> tuple[np.ndarray, bool]:
        found = self.memo.find(kind, key, suffix=".npy")
        if found is not None:
            return np.array(load_array(found)), True
        array = make()
        self.memo.store(kind, key, lambda path: _save(path, array), suffix=".npy")
        return array, False

    def video(self, frames_THWC: np.ndarray, frames_digest: str) -> tuple[np.ndarray, bool]:
        """Unit vectors (T, D) of a video's stored frames, and whether they came from the memo.

        Args:
            frames_THWC: uint8 RGB.
            frames_digest: digest of the same frames, for the memo.
        """
        key = self.key | {"frames": frames_digest}
        return self._remembered("embeddings", key, lambda: self._embed_frames(frames_THWC))

    def texts(self, texts: list[str], label: str) -> np.ndarray:
        """Unit vectors (len(texts), D), in fixed batches of their order."""
        passes = [np.zeros((0, self.dim), np.float32)]
        with Progress(f"embedding {label}", len(texts)) as progress:
            for first in range(0, len(texts), TEXTS_A_PASS):
                batch = texts[first : first + TEXTS_A_PASS]
                array, _ = self._remembered(
                    "embeddings", self.key | {"texts": batch}, lambda b=batch: self._embed_texts(b)
                )
                passes.append(array)
                progress.advance(len(batch))
        return np.concatenate(passes)


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def fuse_frames(frames_NFD: np.ndarray) -> np.ndarray:
    """The mean of each F unit vectors as a unit vector: (N, F, D) to (N, D)."""
    mean_ND = frames_NFD.mean(axis=1)
    return (mean_ND / np.linalg.norm(mean_ND, axis=1, keepdims=True)).astype(np.float32)


def fuse_clips(frames_TD: np.ndarray, uniform: np.ndarray, clip_frames: int) -> np.ndarray:
    """Clips of `clip_frames` consecutive uniform frames: (T, D) to (C, D)."""
    return fuse_frames(frames_TD[uniform].reshape(-1, clip_frames, frames_TD.shape[1]))
