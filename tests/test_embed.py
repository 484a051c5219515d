"""The stage embed as a command, with a tiny model: what params.embed adds and leaves out."""

import os
from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml

from stillmotion.backbones.xclip_expansion import expand_clip
from stillmotion.config.models import BuiltinBackboneParams, XClipExpansionParams
from stillmotion.embedding.reader import Embeddings
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Action, Caption, Moment, Video, save_records
from stillmotion.training.builtin import new_builtin
from stillmotion.video.packed import PackedVideo, write_tables
from stillmotion.video.shards import join_parts, part_file

ROOT = Path(__file__).resolve().parents[1]
IDS = ["a", "b"]
SPLITS = {"a": "train", "b": "test"}
CAPTIONS = [Caption("a#0", "a", "a red ball moves", None, None), Caption("b#0", "b", "two", None, None)]
SYSTEM = {"model": "c", "base": "c", "expansion": None, "pretraining": None, "recipe": None, "seed": None}
PROBED = {"duration": 8.0, "fps": 1.0, "num_frames": 8, "width": 32, "height": 32, "codec": "h264"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two stored videos with captions, a CLIP and an X-CLIP of random weights."""
    root = tmp_path_factory.mktemp("project")
    packed = {}
    for row, name in enumerate(IDS):
        frames = np.random.default_rng(row).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        save_array(root / "frames" / part_file(name), frames)
        packed[name] = PackedVideo(PROBED, np.arange(8.0), np.arange(8), np.array([1, 3, 5, 7]), from_memo=False)
    videos = [Video(name, f"{name}.mp4", SPLITS[name], None, None, None, None, None, None, "ok") for name in IDS]
    join_parts(root / "frames", packed)
    write_tables(root / "frames", videos, packed, {})
    save_records(root / "raw", Caption, CAPTIONS)
    save_records(root / "raw", Moment, [Moment(1, "a ball", "a", 8.0, [[0.0, 2.0]], [0], [[4, 4, 4]])])
    save_records(root / "raw", Action, [Action("a", "spins", 0.0, 2.0)])
    sizes = {"image_size_px": 32, "patch_size_px": 8, "width": 32, "layers": 1, "text_layers": 1, "heads": 2}
    training = {"steps": 1, "batch_size": 1, "learning_rate": 1e-3, "weight_decay": 0.0, "warmup_fraction": 0.0}
    clip = new_builtin(
        BuiltinBackboneParams(family="builtin", embed_dim=16, max_sentences=1, seed=0, **sizes, **training)
    )
    clip.save(root / "clip", {"system": SYSTEM})
    expansion = XClipExpansionParams(
        family="xclip", num_frames=4, integration_layers=1, prompt_layers=1, max_tokens=20, seed=0
    )
    expand_clip(clip, expansion).save(root / "xclip", {"system": SYSTEM | {"expansion": "x"}})
    return root


@pytest.fixture
def embed(run_script):
    """The stage, with params that are these but for the changes."""

    def run(project, model, output, *, tokens=False, **changes):
        yaml = ruamel.yaml.YAML()
        params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["sample_frames"] |= {"num_uniform": 8}
        params["run"] |= {"probed": [], "assessed": [], "selected": []}
        params["retrieval"] = {}
        params["embed"] |= {"clip_frames": 4, "clip_counts": [1, 2], "tokens": tokens} | changes
        with (project / "params.yaml").open("w", encoding="utf-8") as out:
            yaml.dump(params, out)
        options = ["--model", model, "--raw", "raw", "--frames", "frames", "--output", output]
        env = os.environ | {"STILLMOTION_MEMO": "off", "STILLMOTION_DEVICE": "cpu"}
        return run_script("embed", *options, cwd=project, env=env)

    return run


def test_tokens_stand_beside_files_that_stay_the_same_to_the_byte(project, embed):
    for output, tokens in (("without", False), ("with", True)):
        done = embed(project, "clip", output, tokens=tokens)
        assert done.returncode == 0, done.stderr
    without, found = (
        {path.name: path.read_bytes() for path in (project / output).iterdir()} for output in ("without", "with")
    )
    assert found.keys() - without.keys() == {"clip_frames.npy", "caption_tokens.npy", "caption_token_offsets.npy"}
    assert {name: found[name] for name in without} == without
    embedded = Embeddings(project / "with")
    assert embedded.clip_frames.shape == (2, 4, 16)
    # a CLIP's frames do not see one another: those of the clip are among the stored ones, and the clip is their mean
    np.testing.assert_allclose(embedded.clip_frames[1], embedded.video_frames(embedded.videos[1])[1::2], atol=1e-6)
    means = embedded.clip_frames.mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(embedded.clips(1)[:, 0], means, atol=1e-6)
    # start, words, end
    assert embedded.caption_token_offsets.tolist() == [0, 6, 9]
    np.testing.assert_allclose(np.linalg.norm(embedded.caption_tokens, axis=1), np.ones(9), rtol=1e-6)
    np.testing.assert_allclose(embedded.caption_tokens[[5, 8]], embedded.captions, atol=1e-6)


def test_embeddings_tell_of_the_model_in_fields_and_of_no_scorer(project, embed):
    done = embed(project, "xclip", "told")
    assert done.returncode == 0, done.stderr
    assert Embeddings(project / "told").system == SYSTEM | {"expansion": "x", "scorer": None}


@pytest.mark.slow
def test_without_spans_and_single_frames_what_is_left_stays_the_same(project, embed):
    for output, wanted in (("all", True), ("few", False)):
        done = embed(project, "xclip", output, spans=wanted, single_frames=wanted)
        assert done.returncode == 0, done.stderr
    everything, few = ({path.name: path.read_bytes() for path in (project / name).iterdir()} for name in ("all", "few"))
    assert everything.keys() - few.keys() == {"frames.npy", "actions.npy", "actions.jsonl"}
    # One pass holds other clips now: the same vectors, but for rounding.
    np.testing.assert_allclose(np.load(project / "few/clips.npy"), np.load(project / "all/clips.npy"), atol=1e-6)
    del few["clips.npy"]
    assert {name: everything[name] for name in few} == few


def test_a_model_without_tokens_is_embedded_without_them_and_says_so(project, embed):
    for output, tokens in (("xclip-without", False), ("xclip-with", True)):
        done = embed(project, "xclip", output, tokens=tokens)
        assert done.returncode == 0, done.stderr
        assert ("xclip: no tokens for an alignment: params.yaml: Mug needs" in done.stderr) is tokens
    without, found = (
        {path.name: path.read_bytes() for path in (project / output).iterdir()}
        for output in ("xclip-without", "xclip-with")
    )
    assert found == without
    with pytest.raises(InputError, match="embed again, with a CLIP, a CoCa or a STAN"):
        _ = Embeddings(project / "xclip-with").clip_frames


def test_a_split_that_is_not_wanted_has_no_videos_and_texts_that_hold_nothing(project, embed):
    for output, splits in (("of-all", ["train", "validation", "test"]), ("of-test", ["test"])):
        done = embed(project, "clip", output, tokens=True, splits=splits)
        assert done.returncode == 0, done.stderr
    everything, few = Embeddings(project / "of-all"), Embeddings(project / "of-test")
    assert [video.video_id for video in few.videos] == ["b"]
    for rows in (few.clips(2), few.clip_frames, few.frames):
        assert len(rows) == (8 if rows is few.frames else 1)
    np.testing.assert_array_equal(few.clips(2)[0], everything.clips(2)[1])
    np.testing.assert_array_equal(few.clip_frames[0], everything.clip_frames[1])
    assert np.isnan(few.captions[0]).all()
    assert np.isnan(few.queries).all()
    assert not np.isnan(everything.queries).any()
    # Alone in its batch, it is the same text but for rounding.
    np.testing.assert_allclose(few.captions[1], everything.captions[1], atol=1e-6)
    assert few.caption_token_offsets.tolist() == [0, 0, 3]
    np.testing.assert_allclose(few.caption_tokens, everything.caption_tokens[6:], atol=1e-6)
    assert few.class_names == everything.class_names == ["spins"]
    assert (len(everything.actions), few.actions) == (1, [])


def test_splits_without_a_video_are_told(project, embed):
    videos = (project / "frames" / "videos.jsonl").read_text(encoding="utf-8")
    (project / "frames" / "videos.jsonl").write_text(videos.replace('"test"', '"validation"'), encoding="utf-8")
    done = embed(project, "clip", "none", splits=["test"])
    (project / "frames" / "videos.jsonl").write_text(videos, encoding="utf-8")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "embed: error: frames: no video of test could be decoded; see frames/skipped.jsonl, or name another split in "
        "embed.splits"
    )
    assert not (project / "none").exists()


@pytest.mark.parametrize(("video_id", "num_cut"), [("a", 0), ("b", 1)])
def test_cut_captions_are_counted_where_they_are_of_the_test_split(project, embed, video_id, num_cut):
    save_records(project / "raw", Caption, [*CAPTIONS, Caption("c#0", video_id, "ball " * 200, None, None)])
    done = embed(project, "clip", f"cut-{video_id}")
    save_records(project / "raw", Caption, CAPTIONS)
    assert done.returncode == 0, done.stderr
    assert Embeddings(project / f"cut-{video_id}").model["truncated"] == {"captions": num_cut}
