"""A small project in which all that a search reads is built, by a CLIP with random weights."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import open_clip
import ruamel.yaml
import torch
from open_clip.transform import PreprocessCfg

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.io.arrays import save_array
from stillmotion.io.memo import folder_digest
from stillmotion.io.records import Video, save_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.video.packed import PackedVideo, write_tables
from stillmotion.video.shards import join_parts, part_file

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"
TEXT = "a red ball"
COSINES = {"kitchen": [0.1, 0.2, 0.1], "street": [0.2, 0.9, 0.7], "yard": [0.5, 0.1, 0.1]}
PROBED = {"duration": 5.5, "fps": 4.0, "num_frames": 22, "width": 32, "height": 32, "codec": "h264"}


def make_clip() -> OpenClipBackbone:
    vision = {"width": 32, "layers": 1, "image_size": 32, "patch_size": 8, "head_width": 16}
    text = {"width": 32, "layers": 1, "heads": 2, "context_length": 16, "vocab_size": 49408}
    config = {
        "model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": asdict(PreprocessCfg(size=32)),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**json.loads(json.dumps(config["model_cfg"])))
    open_clip.model.set_model_preprocess_cfg(model, config["preprocess_cfg"])
    return OpenClipBackbone(model, open_clip.SimpleTokenizer(context_length=16), config).eval()


def at_cosines(unit_D, cosines):
    """Unit vectors whose cosines with a given one are these."""
    other_D = np.random.default_rng(0).standard_normal(len(unit_D))
    other_D -= other_D @ unit_D * unit_D
    other_D /= np.linalg.norm(other_D)
    return np.stack([value * unit_D + (1 - value**2) ** 0.5 * other_D for value in cosines])


def thresholds(threshold):
    return {
        "method": "vc1",
        "post_processing": "none",
        "least_cosine": 1e-6,
        "parameters": {"threshold": threshold},
        "frozen_range": None,
    }


def write_embeddings(folder, unit_D, digest, curves=COSINES, model="small_clip", splits=None):
    """Each video as two stored frames a clip, the first of which belongs to no clip and is the query itself."""
    cosines = [value for curve in curves.values() for cosine in curve for value in (1.0, cosine)]
    save_array(folder / "frames.npy", at_cosines(unit_D, cosines).astype(np.float32))
    videos = [
        EmbeddedVideo(video_id, (splits or {}).get(video_id, "test"), 5.5, 6 * row, 6, [0, 2], [1, 3, 5])
        for row, video_id in enumerate(curves)
    ]
    write_rows(folder / "index.jsonl", (video.row() for video in videos))
    write_json(folder / "model.json", {"dim": 16, "model": digest, "system": {"model": model}})


def with_unit(root, clip):
    """The text's vector, and the digest of the model that made it."""
    with torch.no_grad():
        unit_D = clip.model.encode_text(clip.tokenizer([TEXT]), normalize=True)[0].double().numpy()
    return unit_D, folder_digest(root / "models" / "backbones" / "small_clip")


def build_project(root, clip):
    """Three videos of one dataset, their embeddings, frames and thresholds; the folder is there."""
    yaml = ruamel.yaml.YAML(typ="safe", pure=True)
    params = yaml.load(PARAMS.read_text(encoding="utf-8"))
    params["run"]["selected"] = ["small_clip", "small_clip-patch_dropout"]
    params["run"]["selections"] = ["vc1_none", "vc1_log_smooth_norm"]
    with (root / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    model = root / "models" / "backbones" / "small_clip"
    clip.save(model, {})
    write_embeddings(root / "data" / "embeddings" / "toy-small_clip", *with_unit(root, clip))
    for selection, threshold in (("vc1_none", 0.6), ("vc1_log_smooth_norm", 0.8)):
        folder = root / "models" / "thresholds" / f"small_clip-{selection}"
        write_json(folder / "thresholds.json", thresholds(threshold))
    (root / "data" / "sources" / "toy").mkdir(parents=True)
    records = [Video(name, f"data/raw/toy/{name}.mp4", "test", **PROBED, status="ok") for name in COSINES]
    lost = replace(records[0], video_id="torn", status="no frame can be decoded")
    apart = replace(records[0], video_id="attic", split="validation")
    save_records(root / "data" / "raw" / "toy" / "tables", Video, [*records, lost, apart])
    store = root / "data" / "frames" / "toy"
    timestamps = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    packed = {name: PackedVideo(PROBED, timestamps, np.array([0, 2]), np.array([1, 3, 5]), False) for name in COSINES}
    for row, name in enumerate(COSINES):
        save_array(store / part_file(name), np.full((6, 32, 32, 3), 50 * row, dtype=np.uint8))
    join_parts(store, packed)
    write_tables(store, [*records, lost], packed, {})
