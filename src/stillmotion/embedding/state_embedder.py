"""Embeds with a video LLM: of a video or a text everything that is kept of its hidden states comes from one pass.

What is kept goes to the memo under a key that has nothing of the choice of a layer and a pooling: another choice costs
no forward pass. Vectors are `VideoLLM.chosen` of it.

Shapes: T stored frames of a video, N clips, F frames of a clip, B texts; K kept layers, P kept poolings, D width.
"""

import atexit
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillmotion.backbones.backbone import Embeds
from stillmotion.backbones.family_files import read_video_llm
from stillmotion.backbones.video_llm.choice import OWN_FILES
from stillmotion.backbones.video_llm.model import VideoLLM
from stillmotion.embedding.embedder import FRAMES_A_PASS, Embedder
from stillmotion.io.memo import Memo, folder_digest
from stillmotion.stage import Progress

TEXTS_A_BATCH = 64
"""Of an entry of the memo: what is kept of a text may be a megabyte."""
TEXTS_A_PASS = 16

Kept = dict[str, torch.Tensor]
"""`pooled` (N, K, P, D), and with keep_tokens_of `tokens` (all tokens, D) of that layer and `tokens_counts` (N,)."""


@dataclass(frozen=True)
class StateEmbedder(Embedder):
    """Embeds with one video LLM."""

    backbone: VideoLLM

    def _kept(self, key: dict[str, Any], make: Any) -> tuple[Kept, bool]:
        return self._remembered_tensors("states", self.key | key, make)

    def clip_states(
        self, frames_THWC: np.ndarray, frames_digest: str, clips_NF: np.ndarray, times_T: np.ndarray
    ) -> tuple[Kept, bool]:
        """What is kept of clips of one video, and whether the memo had it.

        Args:
            frames_THWC: uint8 RGB, all stored frames.
            frames_digest: digest of them, for the memo.
            clips_NF: which of them make each clip.
            times_T: when each is shown, in seconds; some models are told.
        """
        key = {"frames": frames_digest, "clips": clips_NF.tolist(), "times": times_T.tolist()}
        return self._kept(key, lambda: self.backbone.keep_clips(frames_THWC, clips_NF, FRAMES_A_PASS, times_T))

    def video(
        self,
        frames_THWC: np.ndarray,
        frames_digest: str,
        clips_NF: np.ndarray,
        *,
        single_frames: bool = True,
        times_T: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """As every embedder's; a single frame is a video of one. The first clip is one entry of the memo."""
        times_T = np.arange(len(frames_THWC), dtype=np.float64) if times_T is None else times_T
        singles_T1 = np.arange(len(frames_THWC) * single_frames)[:, None]
        groups = [
            self.clip_states(frames_THWC, frames_digest, clips, times_T)
            for clips in (singles_T1, clips_NF[:1], clips_NF[1:])
            if len(clips)
        ]
        pooled = torch.cat([self.backbone.nothing(), *(kept["pooled"] for kept, _ in groups)])
        vectors = self.backbone.chosen(pooled).numpy()
        return vectors[: len(singles_T1)], vectors[len(singles_T1) :], all(known for _, known in groups)

    def text_states(self, texts: list[str], label: str) -> Iterator[Kept]:
        """What is kept of texts, in batches of their order."""
        with Progress(f"embedding {label}", len(texts)) as progress:
            for first in range(0, len(texts), TEXTS_A_BATCH):
                batch = texts[first : first + TEXTS_A_BATCH]
                yield self._kept({"texts": batch}, lambda b=batch: self.backbone.keep_texts(b, TEXTS_A_PASS))[0]
                progress.advance(len(batch))

    def texts(self, texts: list[str], label: str) -> np.ndarray:
        vectors = [self.backbone.chosen(kept["pooled"]) for kept in self.text_states(texts, label)]
        return torch.cat([torch.zeros(0, self.backbone.dim), *vectors]).numpy()


def embedder_of(backbone: Embeds, folder: Path, memo: Memo, key: dict[str, Any], precision: str) -> Embedder:
    """The embedder of a model that `folder` holds; without a memo, what is kept of hidden states has one of its own."""
    if not isinstance(backbone, VideoLLM):
        return Embedder(backbone, memo, key, precision)
    settings = read_video_llm(folder)[2].model_dump(exclude={"layer", "pooling"})
    digest = [folder_digest(folder, without=OWN_FILES), settings]
    if memo.root is None or not memo.keeps:
        memo = Memo(Path(tempfile.mkdtemp(prefix="stillmotion-")))
        atexit.register(memo.clear)
    return StateEmbedder(backbone, memo, key | {"model": digest, "precision": "its own"}, "fp32")
