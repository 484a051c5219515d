"""From stored frames and texts to embeddings, one video at a time.

A video is always one batch, so its embedding does not depend on which videos stand beside it: the memo can
hold it, and adding a video changes no other's bytes.

Shapes: T stored frames of a video, N clips, F frames of a clip, D embedding dimensions.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillmotion.backbones.backbone import Backbone
from stillmotion.backbones.compute import autocast
from stillmotion.io.arrays import load_array
from stillmotion.memo import Memo
from stillmotion.stage import Progress

FRAMES_A_PASS = 128
TEXTS_A_PASS = 256


@dataclass(frozen=True)
class Embedder:
    """Embeds with one model; what was embedded before comes from the memo."""

    backbone: Backbone
    memo: Memo
    key: dict[str, Any]
    """What decides an embedding beside the frames or texts: weights, code, precision, device."""
    precision: str

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

    def video(
        self, frames_THWC: np.ndarray, frames_digest: str, clips_NF: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Unit vectors (T, D) of a video's stored frames and (N, D) of its clips, and whether the memo had them.

        Args:
            frames_THWC: uint8 RGB.
            frames_digest: digest of the same frames, for the memo.
            clips_NF: which of the frames make each clip.
        """

        def embed() -> np.ndarray:
            with autocast(self.backbone.device, self.precision):
                found = self.backbone.embed_video(frames_THWC, clips_NF, frames_a_pass=FRAMES_A_PASS)
            return torch.cat(found).float().cpu().numpy()

        key = self.key | {"frames": frames_digest, "clips": clips_NF.tolist()}
        array, remembered = self._remembered("embeddings", key, embed)
        return array[: len(frames_THWC)], array[len(frames_THWC) :], remembered

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


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
