"""The stages backbone, expand_backbone, embed and measure_resources with a tiny video LLM, as commands."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml
import torch
from tiny_video_llms import SETTINGS, write

from stillmotion.backbones.registry import load_embeds
from stillmotion.backbones.video_llm.video_llama_3 import VideoLlama3
from stillmotion.embedding.reader import Embeddings
from stillmotion.embedding.states import StoredStates
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Action, Caption, Moment, Video, save_records
from stillmotion.video.packed import PackedVideo, write_tables
from stillmotion.video.shards import join_parts, part_file

ROOT = Path(__file__).resolve().parents[1]
SPLITS = {"a": "train", "b": "test", "c": "test"}
CAPTIONS = [Caption("a#0", "a", "a red ball moves", None, None), Caption("b#0", "b", "two", None, None)]
CAPTIONS += [Caption("c#0", "c", "a dog", None, None), Caption("gone#0", "gone", "nothing", None, None)]
PROBED = {"duration": 8.0, "fps": 1.0, "num_frames": 8, "width": 32, "height": 32, "codec": "h264"}
TIMES = np.arange(8) * 1.5
LLM = SETTINGS | {"family": "video_llm", "checkpoint": "folder", "revision": "main", "weights": "checkpoint", "seed": 0}
CHOICE = {"family": "video_llm_layer", "layer": "last", "pooling": "mean"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Three stored videos with captions, and a VideoLLaMA3 in the hub's layout."""
    root = tmp_path_factory.mktemp("project")
    packed = {}
    for row, name in enumerate(SPLITS):
        frames = np.random.default_rng(row).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        save_array(root / "frames" / part_file(name), frames)
        packed[name] = PackedVideo(PROBED, TIMES, np.arange(8), np.array([1, 5]), from_memo=False)
    videos = [Video(name, f"{name}.mp4", SPLITS[name], None, None, None, None, None, None, "ok") for name in SPLITS]
    join_parts(root / "frames", packed)
    write_tables(root / "frames", videos, packed, {})
    save_records(root / "raw", Caption, CAPTIONS)
    save_records(root / "raw", Moment, [Moment(1, "a ball", "a", 8.0, [[0.0, 2.0]], [0], [[4, 4, 4]])])
    save_records(root / "raw", Action, [Action("a", "spins", 0.0, 2.0)])
    write("video_llama_3", root / "weights" / "llm")
    return root


@pytest.fixture
def stage(project, run_script, tmp_path):
    """A stage in the project, with params that are these but for the changes of the backbone and of embed."""

    def run(script, *options, memo="off", embed=None, expansion=None, **changes):
        yaml = ruamel.yaml.YAML()
        params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["sample_frames"] |= {"num_uniform": 8}
        params["run"] |= {"probed": [], "assessed": [], "selected": []}
        params["retrieval"] = {}
        params["backbones"]["llm"] = LLM | changes
        params["expansions"]["choice"] = CHOICE | (expansion or {})
        params["embed"] |= {"clip_frames": 4, "clip_counts": [1, 2]} | (embed or {})
        with (project / "params.yaml").open("w", encoding="utf-8") as out:
            yaml.dump(params, out)
        env = os.environ | {"STILLMOTION_MEMO": str(memo), "STILLMOTION_DEVICE": "cpu"}
        return run_script(script, *options, cwd=project, env=env)

    return run


@pytest.fixture
def made(stage, project):
    """Runs the stage backbone into models/NAME."""

    def make(name, **changes):
        output = f"models/{name}"
        if not (project / output).is_dir() or changes:
            done = stage("backbone", "--name", "llm", "--weights", "weights", "--output", output, **changes)
            assert done.returncode == 0, done.stderr
        return project / output

    return make


def embed_options(model, output):
    return ["--model", f"models/{model}", "--raw", "raw", "--frames", "frames", "--output", output]


def test_one_pass_fills_the_store_and_the_arrays_of_the_chosen_layer(stage, made, project):
    made("kept", layer="layer:2", pooling="max", keep_tokens_of="layer:2", poolings=["max", "mean", "last_token"])
    done = stage("embed", *embed_options("kept", "kept"))
    assert done.returncode == 0, done.stderr
    embedded, stored = Embeddings(project / "kept"), StoredStates(project / "kept")
    assert (stored.layers, stored.poolings, stored.width) == (
        ["before_llm", "layer:1", "layer:2", "layer:3"],
        ["max", "mean", "last_token"],
        32,
    )
    video_llm = load_embeds(project / "models/kept", torch.device("cpu"))
    for row in range(len(SPLITS)):
        frames = np.random.default_rng(row).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        clip = [1, 3, 5, 7]  # of 8 uniform ones, one of each quarter
        (states,) = video_llm.video_states([frames[clip]], [TIMES[clip]])
        wanted = states.layers_LTD[2].amax(0).numpy()
        np.testing.assert_allclose(stored.videos("layer:2", "max")[row], wanted, atol=1e-5)
        np.testing.assert_allclose(stored.videos("last", "mean")[row], states.layers_LTD[3].mean(0), atol=1e-5)
        np.testing.assert_allclose(stored.videos("before_llm", "last_token")[row], states.last_LD[0], atol=1e-5)
        np.testing.assert_allclose(embedded.clips(1)[row, 0], wanted / np.linalg.norm(wanted), atol=1e-5)
        tokens, offsets = stored.video_tokens
        np.testing.assert_allclose(tokens[offsets[row] : offsets[row + 1]], states.layers_LTD[2], atol=1e-5)
        (still,) = video_llm.video_states([frames[3:4]], [TIMES[3:4]])
        alone = still.layers_LTD[2].amax(0).numpy()
        found = embedded.video_frames(embedded.videos[row])[3]
        np.testing.assert_allclose(found, alone / np.linalg.norm(alone), atol=1e-5)
    texts = video_llm.text_states([caption.text for caption in CAPTIONS[:3]])
    tokens, offsets = stored.caption_tokens
    assert offsets.tolist() == [0, 17, 21, 27, 27]  # letters, and what begins a text
    for row, states in enumerate(texts):
        np.testing.assert_allclose(stored.captions("layer:2", "max")[row], states.layers_LTD[2].amax(0), atol=1e-5)
        np.testing.assert_allclose(tokens[offsets[row] : offsets[row + 1]], states.layers_LTD[2], atol=1e-5)
    assert np.isnan(stored.captions("last", "mean")[3]).all()
    assert np.isnan(embedded.captions[3]).all()
    told = json.loads((project / "kept/model.json").read_text())["video_llm"]
    assert told["family"] == "video_llama_3"
    assert told["prompt"] == "{video}\nwhat happens?"


@pytest.mark.slow
def test_what_a_model_needs_to_be_asked_of_a_video_is_kept_beside_its_tokens(stage, project, tmp_path):
    write("qwen3_vl", tmp_path / "weights" / "llm")
    options = ["--name", "llm", "--weights", str(tmp_path / "weights"), "--output", "models/qwen"]
    for layer, more in (("layer:1", set()), ("before_llm", {"grid", "ticks", "deepstack"})):
        shutil.rmtree(project / "models/qwen", ignore_errors=True)
        assert stage("backbone", *options, keep_tokens_of=layer).returncode == 0
        done = stage("embed", *embed_options("qwen", layer))
        assert done.returncode == 0, done.stderr
        names = {f"video_{name}.npy" for name in more} | {f"video_{name.rstrip('s')}_offsets.npy" for name in more}
        plain = {"states.json", "videos.npy", "captions.npy", "video_tokens.npy", "video_token_offsets.npy"}
        plain |= {"caption_tokens.npy", "caption_token_offsets.npy"}
        assert {path.name for path in (project / layer / "states").iterdir()} == plain | names
    stored = StoredStates(project / "before_llm")
    video_llm = load_embeds(project / "models/qwen", torch.device("cpu"))
    for row in range(len(SPLITS)):
        frames = np.random.default_rng(row).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        with torch.no_grad():
            (states,) = video_llm.video_states([frames[[1, 3, 5, 7]]], [TIMES[[1, 3, 5, 7]]])
        found = stored.visual(row, video_llm.beside)
        np.testing.assert_allclose(found["tokens"], states.layers_LTD[0], atol=1e-5)
        np.testing.assert_allclose(found["deepstack"], states.beside["deepstack"], atol=1e-5)
        assert found["ticks"].tolist() == [[1500, 4500, 7500, 10500]]
        assert found["grid"].tolist() == states.beside["grid"].tolist()
        assert isinstance(found["deepstack"], np.memmap)
    with pytest.raises(InputError, match="video_grid.npy: no such file; set keep_tokens_of to a layer"):
        StoredStates(project / "layer:1").visual(0, video_llm.beside)


def test_another_layer_comes_from_the_memo_without_a_forward_pass(stage, made, project, tmp_path, monkeypatch):
    memo = tmp_path / "memo"
    made("first")
    assert stage("embed", *embed_options("first", "first"), memo=memo).returncode == 0
    choice = {"layer": "layer:1", "pooling": "first"}
    options = ["--expansion", "choice", "--backbone", "models/first", "--output", "models/second"]
    done = stage("expand_backbone", *options, expansion=choice)
    assert done.returncode == 0, done.stderr

    def none(*_):
        raise AssertionError("a forward pass")

    monkeypatch.setattr(VideoLlama3, "states_of", none)
    done = stage("embed", *embed_options("second", "second"), memo=memo)
    assert done.returncode == 0, done.stderr
    stored, again = (StoredStates(project / name) for name in ("first", "second"))
    np.testing.assert_array_equal(again.videos("layer:1", "first"), stored.videos("layer:1", "first"))
    wanted = stored.videos("layer:1", "first")
    wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(Embeddings(project / "second").clips(1)[:, 0], wanted, atol=1e-6)
    source = json.loads((project / "models/second/source.json").read_text())
    assert source["system"] | {"model": "second", "expansion": "choice"} == source["system"]


@pytest.mark.parametrize(
    ("choice", "line"),
    [
        ({"layer": "layer:4", "pooling": "mean"}, "set before_llm, layer:1 to layer:3, or last"),
        ({"layer": "layer:2", "pooling": "first"}, "layer 'layer:2' is not kept; add it to layers"),
        ({"layer": "last", "pooling": "max"}, "pooling 'max' is not kept; add it to poolings"),
    ],
)
def test_a_choice_that_is_not_kept_is_refused(stage, made, project, choice, line):
    made("few", layers=["layer:1", "last"], poolings=["first", "mean"])
    options = ["--expansion", "choice", "--backbone", "models/few", "--output", "models/other"]
    done = stage("expand_backbone", *options, expansion=choice)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert line in done.stderr
    assert not (project / "models/other").exists()


def test_a_layer_of_a_model_that_has_none_to_choose_is_refused(stage, project, tmp_path):
    options = ["--expansion", "choice", "--backbone", "raw", "--output", "models/other"]
    shutil.copyfile(_source(tmp_path), project / "raw/source.json")
    done = stage("expand_backbone", *options, expansion={"layer": "last", "pooling": "mean"})
    assert done.stderr.endswith("no video LLM, whose layers alone can be chosen; take this one out of `expanded`\n")


def _source(folder):
    path = folder / "source.json"
    path.write_text(json.dumps({"system": {"model": "m"}}))
    return path


@pytest.mark.slow
def test_embedding_is_the_same_with_a_memo_without_and_again(stage, made, project, tmp_path):
    made("first")
    for name, memo in (("off", "off"), ("on", tmp_path / "memo"), ("again", tmp_path / "memo")):
        assert stage("embed", *embed_options("first", name), memo=memo).returncode == 0
    off, on, again = (
        {path.relative_to(project / name): path.read_bytes() for path in (project / name).rglob("*") if path.is_file()}
        for name in ("off", "on", "again")
    )
    assert off == on == again


def test_initial_weights_follow_from_the_seed(made, project, tmp_path, stage):
    shutil.copytree(project / "weights/llm", tmp_path / "weights/llm")
    (tmp_path / "weights/llm/model.safetensors").unlink()
    found = []
    for name, seed in (("one", 1), ("same", 1), ("two", 2)):
        options = ["--name", "llm", "--weights", str(tmp_path / "weights"), "--output", f"models/{name}"]
        done = stage("backbone", *options, weights="random", seed=seed)
        assert done.returncode == 0, done.stderr
        found.append((project / "models" / name / "model.safetensors").read_bytes())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"prompt": "what happens?"}, "prompt is 'what happens?' and must hold {video} once; put it where it goes"),
        ({"text_prompt": "{video}"}, "text_prompt is '{video}' and must hold {text} once; put it where it goes"),
        ({"layer": "layer 3"}, "param backbones.llm.layer is 'layer 3'"),
        ({"pooling": "median"}, "param backbones.llm.pooling is 'median'"),
        ({"pooling": "max", "poolings": ["mean"]}, "pooling 'max' is not kept; add it to poolings"),
        ({"system": "be brief"}, "system is a message of the chat template"),
        ({"checkpoint": "folder", "layer": "layer:9"}, "set before_llm, layer:1 to layer:3, or last"),
    ],
)
def test_params_that_do_not_fit_are_told_in_one_line(stage, project, changes, line):
    done = stage("backbone", "--name", "llm", "--weights", "weights", "--output", "models/none", **changes)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert line in done.stderr
    assert not (project / "models/none").exists()


def test_a_folder_of_another_kind_of_model_is_told(stage, project, tmp_path):
    shutil.copytree(project / "weights/llm", tmp_path / "weights/llm")
    (tmp_path / "weights/llm/config.json").write_text('{"model_type": "bert"}')
    done = stage("backbone", "--name", "llm", "--weights", str(tmp_path / "weights"), "--output", "models/none")
    assert "model_type is 'bert', which is no video LLM here; take one of: video_llama_3, " in done.stderr


def test_a_video_of_fewer_frames_than_are_asked_for_is_told(stage, made, project, tmp_path):
    made("first")
    frames = tmp_path / "frames"
    few = PackedVideo(PROBED, TIMES[:2], np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 1]), from_memo=False)
    save_array(frames / part_file("b"), np.zeros((2, 32, 32, 3), np.uint8))
    join_parts(frames, {"b": few})
    video = Video("b", "b.mp4", "test", None, None, None, None, None, None, "ok")
    write_tables(frames, [video], {"b": few}, {})
    options = ["--model", "models/first", "--raw", "raw", "--frames", str(frames), "--output", "short"]
    done = stage("embed", *options)
    assert (done.returncode, done.stderr.count("error:")) == (2, 1)
    assert "1 videos have fewer frames than num_frames of the model, 4 (b first); set fewer" in done.stderr
    assert not (project / "short").exists()


def test_what_cut_texts_there_are_is_counted(stage, made, project):
    made("cut", max_tokens=4)
    assert stage("embed", *embed_options("cut", "cut")).returncode == 0
    assert json.loads((project / "cut/model.json").read_text())["truncated"] == {"captions": 1}  # "a dog", of the test


def test_resources_are_those_of_a_videos_forward_pass(stage, made, project):
    made("first")
    done = stage("measure_resources", "--model", "models/first", "--output", "resources.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((project / "resources.json").read_text())
    assert found["trainable_parameters"] == 0
    assert found["backward_flops"] == 0
    assert found["num_frames"] == 4
    # Of the processor's smallest size, 28 × 28 px, a frame has 2 × 2 patches, which are merged: 4 visual tokens. Behind
    # each block's matrices stand 2 for each multiply-add; the prompt, attention and the vision tower come on top.
    matrices = 2 * 3 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)
    assert found["forward_flops"] > 4 * matrices


def test_states_of_other_models_are_told(project, stage, made):
    with pytest.raises(InputError, match="embed a model of family video_llm"):
        StoredStates(project / "raw")
    made("first")
    assert stage("embed", *embed_options("first", "read")).returncode == 0
    stored = StoredStates(project / "read")
    with pytest.raises(InputError, match="set before_llm, layer:1 to layer:3, or last"):
        stored.videos("layer:7", "mean")
    with pytest.raises(InputError, match="pooling 'median' is not kept"):
        stored.captions("last", "median")
    with pytest.raises(InputError, match="set keep_tokens_of to a layer"):
        _ = stored.video_tokens
