"""A stored layer of a video LLM of transformers is an embedding like any other: what reads those runs on it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml
import torch
from PIL import Image
from tiny_video_llms import SETTINGS, write

from stillmotion import cli
from stillmotion.backbones.registry import load_embeds
from stillmotion.embedding.reader import Embeddings
from stillmotion.embedding.states import StoredStates
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Action, Caption, Moment, Video, load_records, save_records
from stillmotion.io.tables import read_json, read_rows
from stillmotion.io.weights import load_tensors
from stillmotion.retrieval.aggregators import AGGREGATORS
from stillmotion.search.finder import Question
from stillmotion.serving.library import Library
from stillmotion.video.packed import PackedVideo, write_tables
from stillmotion.video.shards import join_parts, part_file

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MODEL, SYSTEM, SELECTION = "llm_middle", "llm_middle-transformer_mean", "vc1_none"
COLORS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "grey": (90, 90, 90)}
SPLITS = {f"{color}_{split}": split for split in ("train", "validation", "test") for color in COLORS}
PROBED = {"duration": 8.0, "fps": 1.0, "num_frames": 8, "width": 32, "height": 32, "codec": "h264"}
LLM = SETTINGS | {"family": "video_llm", "checkpoint": "folder", "revision": "main", "weights": "checkpoint", "seed": 0}


def frames_of(name):
    """Noise around a colour, which a white square leaves in the middle of the video."""
    row = list(SPLITS).index(name)
    noise = np.random.default_rng(row).normal(0, 20, (8, 32, 32, 3))
    frames = np.clip(np.array(COLORS[name.split("_")[0]]) + noise, 0, 255).astype(np.uint8)
    frames[2:6, 8:24, 8:24] = 255
    return frames


def write_dataset(root):
    packed = {}
    for name in SPLITS:
        save_array(root / "data/frames/toy" / part_file(name), frames_of(name))
        packed[name] = PackedVideo(PROBED, np.arange(8.0), np.arange(8), np.array([0, 2, 4, 6]), from_memo=False)
    join_parts(root / "data/frames/toy", packed)
    videos = [Video(name, f"data/{name}.mp4", split, **PROBED, status="ok") for name, split in SPLITS.items()]
    write_tables(root / "data/frames/toy", videos, packed, {})
    said = {name: f"a {name.split('_')[0]} wall" for name in SPLITS}
    moments = [
        Moment(row, f"a square on {text}", name, 8.0, [[2.0, 6.0]], [1, 2], [[4, 4, 4]] * 2)
        for row, (name, text) in enumerate(said.items())
    ]
    tables = root / "data/raw/toy/tables"
    save_records(tables, Video, videos)
    save_records(tables, Caption, [Caption(f"{name}#0", name, text, None, None) for name, text in said.items()])
    save_records(tables, Moment, moments)
    save_records(tables, Action, [])


@pytest.fixture(scope="module", params=["video_llama_3", "qwen3_vl"])
def project(request, tmp_path_factory, run_script):
    """Embeddings by layer:2 of a video LLM that was made with the last one, and all that is trained on them."""
    root = tmp_path_factory.mktemp("project")
    write_dataset(root)
    (root / "data/sources/toy").mkdir(parents=True)
    write(request.param, root / "weights/llm")
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["sample_frames"].update(num_uniform=8, clip_length_s=2.0)
    params["run"].update(backbones=["llm"], embedded=[MODEL], probed=[], assessed=[])
    params["run"].update(selected=[MODEL], selections=[SELECTION])
    params["finetuned"] = {}
    params["retrieval"] = {SYSTEM: {"model": MODEL, "scorer": "transformer_mean"}}
    params["backbones"]["llm"] = LLM
    params["expansions"]["middle"] = {"family": "video_llm_layer", "layer": "layer:2", "pooling": "mean"}
    params["expanded"] = {MODEL: {"from": "llm", "expansion": "middle"}}
    params["embed"].update(clip_frames=4, clip_counts=[1, 2])
    params["train_aggregator"].update(epochs=2, batch_size=4, seeds=[0])
    params["optimise_thresholds"].update(trials=10, sensitivity_points=3)
    with (root / "params.yaml").open("w", encoding="utf-8") as out:
        yaml.dump(params, out)
    raw, model, embedded = "data/raw/toy/tables", f"models/backbones/{MODEL}", f"data/embeddings/toy-{MODEL}"
    common = ["--raw", raw, "--embeddings", embedded]
    scorer, found = ["--scorer", "transformer_mean"], f"models/aggregators/{SYSTEM}"
    tuned, moments = f"models/thresholds/{MODEL}-{SELECTION}", f"metrics/moments/{MODEL}-{SELECTION}.json"
    for stage, *options in (
        ["backbone", "--name", "llm", "--weights", "weights", "--output", "models/backbones/llm"],
        ["expand_backbone", "--expansion", "middle", "--backbone", "models/backbones/llm", "--output", model],
        ["embed", "--model", model, "--raw", raw, "--frames", "data/frames/toy", "--output", embedded],
        ["train_aggregator", *scorer, *common, "--output", found, "--plot", "history.csv"],
        ["evaluate_retrieval", *scorer, *common, "--model", model, "--aggregator", found]
        + ["--metrics", f"metrics/retrieval/{SYSTEM}.json", "--predictions", "ranks"],
        ["optimise_thresholds", "--selection", SELECTION, *common, "--output", tuned],
        ["evaluate_moments", "--scorer", SELECTION, *common, "--thresholds", tuned]
        + ["--metrics", moments, "--predictions", "moments"],
    ):
        env = os.environ | {"STILLMOTION_MEMO": "off", "STILLMOTION_DEVICE": "cpu"}
        done = run_script(stage, *options, cwd=root, env=env)
        assert done.returncode == 0, (stage, done.stderr)
    return root


@pytest.fixture(scope="module")
def middle(project):
    """Literal unit vectors: the mean over their tokens of what the second block gives."""
    video_llm = load_embeds(project / "models/backbones" / MODEL, torch.device("cpu"))

    def vectors(states):
        pooled = np.stack([each.layers_LTD[2].double().mean(0).numpy() for each in states])
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    def of_frames(name, rows):
        found = [video_llm.video_states([frames_of(name)[row : row + 1]], [np.array([1.0 * row])]) for row in rows]
        return vectors([states for (states,) in found])

    return of_frames, lambda texts: vectors(video_llm.text_states(texts))


def test_an_aggregator_is_trained_on_the_clips_of_a_layer(project):
    embedded = Embeddings(project / f"data/embeddings/toy-{MODEL}")
    stored = StoredStates(embedded.folder).videos("layer:2", "mean")
    unit = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    np.testing.assert_allclose(embedded.clips(1)[:, 0], unit, atol=1e-6)
    metrics = read_json(project / f"metrics/retrieval/{SYSTEM}.json")
    assert metrics["protocol"]["gallery_size"] == len(COLORS)
    assert (metrics["protocol"]["video_llm"]["layer"], metrics["system"]["expansion"]) == ("layer:2", "middle")
    rows = [row for row, video in enumerate(embedded.videos) if video.split == "test"]
    names = [embedded.videos[row].video_id for row in rows]
    said = [caption.video_id for caption in load_records(project / "data/raw/toy/tables", Caption)]
    texts = np.array(embedded.captions)[[said.index(name) for name in names]]
    ranks = {name: {} for name in names}
    for count in (1, 2):
        found = project / f"models/aggregators/{SYSTEM}/clips-{count}/seed-0.safetensors"
        aggregator = AGGREGATORS["transformer_mean"](32, count, heads=8, mlp_ratio=4.0).eval()
        aggregator.load_state_dict(load_tensors(found)[0])
        with torch.no_grad():
            videos = aggregator(torch.from_numpy(np.array(embedded.clips(count)[rows]))).numpy()
        for place, cosines in enumerate(texts @ videos.T):
            ranks[names[place]][str(count)] = [1.0 + (cosines > cosines[place]).sum()]
    told = read_rows(project / "ranks/ranks.jsonl")
    assert {row["video_id"]: row["rank_by_num_clips"] for row in told} == ranks


def test_moments_are_found_by_the_states_of_single_frames(project, middle):
    of_frames, of_texts = middle
    thresholds = read_json(project / f"models/thresholds/{MODEL}-{SELECTION}/thresholds.json")
    assert thresholds["num_trials"] == 10
    submission = read_rows(project / "moments/submission.jsonl")
    assert [row["vid"] for row in submission] == [name for name, split in SPLITS.items() if split == "test"]
    for row in submission:
        cosines = of_frames(row["vid"], [0, 2, 4, 6]) @ of_texts([row["query"]])[0]
        assert row["pred_saliency_scores"] == pytest.approx(cosines.tolist(), abs=1e-4)
    assert 0 <= read_json(project / f"metrics/moments/{MODEL}-{SELECTION}.json")["mIoU"] <= 100


def test_a_search_finds_a_stored_frame_by_its_image_and_ranks_texts_by_the_layer(project, middle, capsys, tmp_path):
    Image.fromarray(frames_of("blue_test")[0]).save(tmp_path / "query.png")
    assert cli.run(["search", "--image", str(tmp_path / "query.png"), "--json", "--root", str(project)]) == 0
    best = json.loads(capsys.readouterr().out)[0]
    assert (best["video_id"], best["start"]) == ("blue_test", 0.0)
    assert best["score"] == pytest.approx(1.0, abs=1e-5)
    assert cli.run(["search", "a blue wall", "--json", "--root", str(project)]) == 0
    assert {row["video_id"] for row in json.loads(capsys.readouterr().out)} <= set(SPLITS)


def test_a_server_answers_what_the_search_does(project, capsys):
    assert cli.run(["search", "a red sky", "--json", "--top", "3", "--root", str(project)]) == 0
    listed = json.loads(capsys.readouterr().out)
    library = Library(project)
    library.warm()
    answer = library.finder("", "", "").find(Question(text="a red sky", top=3))
    found = [(moment.video_id, moment.start, moment.score) for moment in answer.moments]
    assert found == [(row["video_id"], row["start"], pytest.approx(row["score"], abs=1e-6)) for row in listed]
    assert library.splits("toy") == {"train": 4, "validation": 4, "test": 4}
