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


@pytest.fixture
def with_states(queries):
    """The queries with hidden states too: two layers of two poolings and, as of the first one, all tokens.

    There are two training and two validation videos too. A text has its video's state, three times as long, in
    `layer:1` by `first`; all else is noise.
    """
    folder, rng = queries.embedded.folder, np.random.default_rng(7)
    names = ["train", "train2", "a", "b", "c", "v1", "v2"]
    splits = {"train": "train", "train2": "train", "v1": "validation", "v2": "validation"}
    splits |= {"a": "test", "b": "test", "c": "test"}
    write_rows(folder / "index.jsonl", [EmbeddedVideo(n, splits[n], 4.0, 0, 1, [0], [0]).row() for n in names])
    captions = [Caption(f"{name}#0", name, f"about {name}", None, None) for name in sorted(splits)]
    num_videos, num_texts = len(names), len(captions)
    save_array(folder / "clips.npy", unit(num_videos, 1, seed=0))
    save_array(folder / "captions.npy", unit(num_texts, seed=2))
    videos = rng.standard_normal((2, 2, num_videos, DIM)).astype(np.float32)
    texts = rng.standard_normal((2, 2, num_texts, DIM)).astype(np.float32)
    texts[1, 0] = videos[1, 0][[names.index(caption.video_id) for caption in captions]] * 3  # layer:1, first: a match
    described = {"layers": ["before_llm", "layer:1"], "poolings": ["first", "mean"], "num_layers": 1, "width": DIM}
    write_json(folder / "states" / "states.json", described)
    save_array(folder / "states" / "videos.npy", videos)
    save_array(folder / "states" / "captions.npy", texts)
    for noun, count in (("video", num_videos), ("caption", num_texts)):
        lengths = 1 + np.arange(count) % 3
        save_array(folder / "states" / f"{noun}_tokens.npy", unit(int(lengths.sum()), seed=5))
        save_array(folder / "states" / f"{noun}_token_offsets.npy", np.array([0, *lengths.cumsum()]))
    model = {"dim": DIM, "model": "abc", "logit_scale": 14.0, "clip_counts": [1]}
    write_json(folder / "model.json", model | {"video_llm": {"keep_tokens_of": "before_llm"}})
    return Queries(Embeddings(folder), captions, splits)
