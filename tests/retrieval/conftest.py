import numpy as np
import pytest

from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption
from stillmotion.io.tables import write_json, write_rows
from stillmotion.retrieval.scoring import Queries

DIM, FRAMES, TOKENS = 6, 3, 4
SPLITS = {"train": "train", "a": "test", "b": "test", "c": "test", "lost": "test"}


def unit(*shape, seed):
    found = np.random.default_rng(seed).standard_normal((*shape, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


@pytest.fixture
def queries(tmp_path):
    """Three test videos as 1 or 2 clips of 3 frames, with a caption each, and tokens; another could not be decoded.

    What a scorer's test needs other vectors for, it writes into `queries.embedded.folder` before they are read.
    """
    captions = [Caption(f"{name}#0", name, f"about {name}", None, None) for name in sorted(SPLITS)]
    decoded = [name for name in SPLITS if name != "lost"]
    rows = [EmbeddedVideo(name, SPLITS[name], 4.0, 0, 1, [0], [0]).row() for name in decoded]
    folder = tmp_path / "embeddings"
    write_rows(folder / "index.jsonl", rows)
    write_json(folder / "model.json", {"dim": DIM, "model": "abc", "logit_scale": 14.0, "clip_counts": [1, 2]})
    save_array(folder / "clips.npy", unit(len(decoded), 3, seed=0))
    save_array(folder / "clip_frames.npy", unit(len(decoded), FRAMES, seed=1))
    save_array(folder / "captions.npy", unit(len(captions), seed=2))
    save_array(folder / "caption_tokens.npy", unit(TOKENS * len(captions), seed=3))
    save_array(folder / "caption_token_offsets.npy", TOKENS * np.arange(len(captions) + 1))
    return Queries(Embeddings(folder), captions, SPLITS)
