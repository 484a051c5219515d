"""An export: open_clip, transformers and the front door open it, its card tells what is so, it goes to a hub."""

import hashlib
import importlib
import shutil

import hub_stub
import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub.utils import _xet
from torch.nn import functional
from transformers import AutoTokenizer, XCLIPModel

from stillmotion import api, cli
from stillmotion.backbones.clip4clip_backbone import Clip4ClipSettings, expand_clip4clip
from stillmotion.backbones.registry import load_backbone
from stillmotion.backbones.stan_expansion import expand_stan
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.backbones.xclip_expansion import expand_clip
from stillmotion.config.models import XClipExpansionParams
from stillmotion.export import push
from stillmotion.io.tables import read_json, write_json

CPU = torch.device("cpu")
push_to_hf_hub = importlib.import_module("open_clip.push_to_hf_hub")  # open_clip has a function of this name
TEXTS = ["a red ball", "a dog jumps over a small fence"]


@pytest.fixture
def export(project, tmp_path, monkeypatch):
    """The command, with its status."""
    monkeypatch.setenv("STILLMOTION_DEVICE", "cpu")

    def run(model, *options, to=tmp_path / "out", root=project):
        return cli.run(["export", model, "--to", str(to), "--root", str(root), *map(str, options)])

    return run


@pytest.fixture
def changed(project, tmp_path):
    """A copy of the project, to change."""
    return shutil.copytree(project, tmp_path / "changed")


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_open_clip_embeds_with_an_exported_clip_to_the_bit(export, small_clip, tmp_path):
    assert export("small_clip") == 0
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'out'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    pixels = small_clip.pixels(frames)
    with torch.no_grad():
        images = functional.normalize(theirs.eval().encode_image(pixels), dim=-1)
        assert torch.equal(images, small_clip.embed_frames(pixels))
        tokens = tokenizer(TEXTS)
        assert torch.equal(tokens, small_clip.tokens(TEXTS))
        texts = theirs.encode_text(tokens, normalize=True)
        assert torch.equal(texts, small_clip.model.encode_text(tokens, normalize=True))
        assert torch.equal(texts, small_clip.text_vectors(TEXTS))
        # Most of the padding is not computed here, and none where a text fills the context.
        for count in range(1, 80):
            texts = ["ball " * count, "a red ball"][: 1 + count % 2]
            assert torch.equal(theirs.encode_text(tokenizer(texts), normalize=True), small_clip.text_vectors(texts))
    assert preprocess.transforms[0].size == 32


def test_a_config_has_what_open_clips_own_push_writes(export, small_clip, tmp_path):
    assert export("small_clip") == 0
    theirs = tmp_path / "theirs.json"
    push_to_hf_hub.save_config_for_hf(small_clip.model, theirs, small_clip.config["model_cfg"])
    ours, theirs = read_json(tmp_path / "out" / "open_clip_config.json"), read_json(theirs)
    assert ours["model_cfg"] == theirs["model_cfg"]
    assert theirs["preprocess_cfg"].items() <= ours["preprocess_cfg"].items()


def make_family(kind, small_clip):
    if kind == "xclip":
        sizes = {"num_frames": 4, "integration_layers": 1, "prompt_layers": 1, "max_tokens": 20}
        return expand_clip(small_clip, XClipExpansionParams(family="xclip", seed=0, **sizes))
    if kind == "stan":
        placed = {"num_layers": 1, "skipped_layers": 0, "interval": 1, "structure": "branch", "temporal": "conv"}
        read = {"inter_proj": "linear", "class_token": "clip", "class_token_mean": "after_attention"}
        return expand_stan(
            small_clip, StanSettings(max_frames=8, context_frames=8, drop_path=0.0, seed=0, **placed, **read)
        )
    return expand_clip4clip(small_clip, Clip4ClipSettings(head="seq_lstm", num_layers=0, seed=0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["xclip", "stan", "clip4clip"])
def test_an_exported_video_model_embeds_as_before(kind, export, changed, small_clip, place, tmp_path):
    made = make_family(kind, small_clip)
    folder = changed / "models" / "backbones" / "video"
    made.save(folder, {"system": {"model": "video"}})
    assert export("video", root=changed) == 0
    found = [
        api.open_model(opened, sampling=api.Sampling()).embed_videos([place / "pan.mp4"]).vectors
        for opened in (folder, tmp_path / "out")
    ]
    np.testing.assert_array_equal(*found)
    library = {"xclip": "transformers"}.get(kind, "stillmotion")
    assert huggingface_hub.metadata_load(tmp_path / "out" / "README.md")["library_name"] == library


@pytest.mark.slow
def test_transformers_embeds_texts_with_an_exported_xclip_to_the_bit(export, changed, small_clip, tmp_path):
    made = make_family("xclip", small_clip)
    made.save(changed / "models" / "backbones" / "video", {"system": {"model": "video"}})
    assert export("video", root=changed) == 0
    ours = load_backbone(tmp_path / "out", CPU)
    theirs = XCLIPModel.from_pretrained(str(tmp_path / "out")).eval()
    found = AutoTokenizer.from_pretrained(str(tmp_path / "out"))(TEXTS, padding=True, return_tensors="pt")
    pixels = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        texts, videos = theirs.get_text_features(**found), theirs.get_video_features(pixels)
        texts, videos = (getattr(each, "pooler_output", each) for each in (texts, videos))
        assert torch.equal(functional.normalize(texts, dim=-1), ours.embed_texts(ours.tokens(TEXTS)))
        assert torch.equal(functional.normalize(videos, dim=-1), ours.embed_clips(pixels))


def test_the_files_of_a_model_are_the_same_bytes_in_its_export(export, project, tmp_path):
    assert export("small_clip") == 0
    found = files_of(tmp_path / "out")
    assert {found.pop(name) is not None for name in ("README.md", "stillmotion.json")} == {True}
    assert found == files_of(project / "models" / "backbones" / "small_clip")


def test_a_system_is_exported_with_what_fuses_its_clips(export, project, place, tmp_path):
    assert export("small_clip-transformer_mean") == 0
    folder = project / "models" / "backbones" / "small_clip"
    aggregator = project / "models" / "aggregators" / "small_clip-transformer_mean"
    videos = [place / "pan.mp4", place / "ball.mp4"]
    sampling = api.Sampling(size_px=64)  # of params.yaml
    before = api.open_model(folder, aggregator=aggregator, sampling=sampling).embed_videos(videos)
    np.testing.assert_array_equal(api.open_model(tmp_path / "out").embed_videos(videos).vectors, before.vectors)
    plain = api.open_model(folder, sampling=sampling).embed_videos(videos)
    assert np.abs(plain.vectors - before.vectors).max() > 0.01


def test_the_card_tells_what_the_files_say(export, tmp_path, capsys):
    assert export("small_clip-transformer_mean", "--license", "mit") == 0
    assert "with a card of 2 measured systems" in capsys.readouterr().out
    header = huggingface_hub.metadata_load(tmp_path / "out" / "README.md")
    assert (header["license"], header["library_name"]) == ("mit", "stillmotion")
    (result, _) = header["model-index"][0]["results"]
    assert result["dataset"] == {"name": "toy", "type": "toy", "split": "test"}
    assert result["metrics"][0] == {"type": "recall_at_1", "value": 40.0, "name": "R@1"}
    card = (tmp_path / "out" / "README.md").read_text()
    row = "| small_clip-transformer_mean | 40.0 (35.0 to 45.0) | 60.0 (55.0 to 65.0) | 80.0 (75.0 to 85.0) |"
    assert row + " 40.0 (35.0 to 45.0) | 4 | 2 | validation |" in card
    assert "30 texts, 20 videos (2 could not be decoded), ties: average" in card
    assert "| small_clip-vc1_norm | 50.0 | 30.0 | 20.0 | 70.0 | train |" in card
    assert "3 captions of the test split are longer than the model reads" in card
    assert "`architecture: ViT-Tiny`" in card


def test_the_card_of_a_model_leaves_out_systems_that_train_something_on_top(export, tmp_path):
    assert export("small_clip") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "small_clip-mean" in card
    assert "small_clip-transformer_mean" not in card


@pytest.mark.slow
def test_an_export_is_the_same_bytes_again_and_replaces_itself(export, tmp_path):
    assert export("small_clip-transformer_mean") == 0
    first = files_of(tmp_path / "out")
    assert export("small_clip-transformer_mean") == 0
    assert files_of(tmp_path / "out") == first
    assert export("small_clip") == 0
    assert not (tmp_path / "out" / "aggregator").exists()


def test_a_folder_that_is_no_export_is_left_alone(export, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert export("small_clip") == 2
    assert "is there and no export of before; name a new folder" in capsys.readouterr().err
    assert files_of(tmp_path / "out") == {"thesis.txt": b"mine"}


def spoil_metrics(root):
    write_json(root / "metrics/retrieval/small_clip-mean.json", {"t2v": {}, "system": {"model": "small_clip"}})


def spoil_weights(root):
    (root / "models/backbones/small_clip/open_clip_model.safetensors").write_bytes(b"no")


def retrain(root):
    write_json(root / "models/backbones/small_clip/source.json", {"system": {}, "seed": 1})


def embed_another(root):
    write_json(root / "data/embeddings/toy-small_clip/model.json", {"model": "another"})


@pytest.mark.parametrize(
    ("model", "spoil", "told"),
    [
        ("small_klip", None, "small_klip: no such model; did you mean small_clip?"),
        ("small_clip-mean", None, "small_clip-mean: not built; run `dvc repro`"),
        ("small_clip", spoil_metrics, "metrics of small_clip: KeyError('protocol') is missing"),
        ("small_clip", spoil_weights, "small_clip: damaged ("),
        ("small_clip-transformer_mean", retrain, "trained on the embeddings of another model than"),
        ("small_clip", embed_another, "the metrics are of another model than it holds; run `dvc repro`"),
    ],
)
def test_what_is_not_whole_is_told_and_nothing_is_written(model, spoil, told, export, changed, tmp_path, capsys):
    if spoil is not None:
        spoil(changed)
    assert export(model, root=changed) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """On loopback; what its clients keep of one, for a day or for good, goes to a folder of the test."""
    with hub_stub.running() as server:
        monkeypatch.setattr(huggingface_hub.constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"))
        for name in ("HF_XET_CACHE", "HF_XET_LOG_DEST"):
            monkeypatch.setenv(name, f"{tmp_path / name}/")
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda _: None)  # between its tries
        monkeypatch.setenv("HF_TOKEN", hub_stub.TOKEN)
        yield server


@pytest.fixture
def by_xet(monkeypatch, hub):
    """As where it is installed, and nothing was sent before: what was is remembered, and not sent again."""
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(_xet, "_GLOBAL_XET_HOLDER", _xet.XetSessionHolder())


@pytest.fixture
def by_lfs(monkeypatch):
    """As where hf_xet is not installed."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)


def weights_of(folder):
    return {name: found for name, found in files_of(folder).items() if name.endswith(".safetensors")}


@pytest.mark.usefixtures("by_lfs")
@pytest.mark.parametrize("part_size", [pytest.param(0, marks=pytest.mark.slow), 20_000])
def test_what_a_push_sends_by_lfs_has_the_sha256_of_its_commit(part_size, export, hub, tmp_path, capsys):
    hub.part_size, hub.held = part_size, ["stan.json", "figure.png", "stillmotion.json"]
    assert export("small_clip-transformer_mean", "--push", "me/toy") == 0, capsys.readouterr().err
    files, weights = files_of(tmp_path / "out"), weights_of(tmp_path / "out")
    pointers = hub.committed("lfsFile")
    assert {path: hub.objects[line["oid"]] for path, line in pointers.items()} == weights
    assert {hashlib.sha256(each).hexdigest() for each in weights.values()} == hub.objects.keys() == hub.verified
    assert {path: line["size"] for path, line in pointers.items()} == {path: len(weights[path]) for path in weights}
    assert {path: hub_stub.content(line) for path, line in hub.committed("file").items()} | weights == files
    assert hub.committed("deletedFile").keys() == {"stan.json"}  # of another family; a picture stays
    assert hub.tokens == {f"Bearer {hub_stub.TOKEN}"}
    if part_size:
        assert max(len(parts) for parts in hub.parts.values()) > 1
    said = capsys.readouterr()
    assert f"{hub.url}/me/toy: uploaded" in said.out
    assert hub_stub.TOKEN not in said.out + said.err


@pytest.mark.usefixtures("by_lfs")
def test_a_repository_with_a_model_that_is_no_export_is_left_as_it_is(export, hub, capsys):
    hub.held = [".gitattributes", "README.md", "model.safetensors"]
    assert export("small_clip-transformer_mean", "--push", "me/toy") == 2
    assert "--push me/toy: holds model.safetensors and is no export of before" in capsys.readouterr().err
    assert not hub.objects
    assert not hub.commit


@pytest.mark.slow
@pytest.mark.usefixtures("by_xet")
def test_what_a_push_sends_by_xet_has_the_sha256_of_its_commit(export, hub, tmp_path, capsys):
    assert export("small_clip", "--push", "me/toy") == 0, capsys.readouterr().err
    ((path, weights),) = weights_of(tmp_path / "out").items()
    assert hub.committed("lfsFile")[path]["oid"] == hashlib.sha256(weights).hexdigest()
    assert sum(map(hub_stub.size_by_xet, hub.xorbs)) == len(weights)
    assert not hub.objects


LOG_IN = "log in (hf auth login, or HF_TOKEN)"
WRITE = "take a token that may write there (HF_TOKEN, made in the hub's settings), or another ORG"
THERE = "check that ORG is there, and that you may see it"
AGAIN = "try again when it answers: what arrived is not sent again"


@pytest.mark.slow
@pytest.mark.usefixtures("by_lfs")
@pytest.mark.parametrize(
    ("where", "status", "mend"),
    [
        ("/repos/create", 401, LOG_IN),
        ("/repos/create", 403, WRITE),
        ("/repos/create", 404, THERE),
        ("/repos/create", 0, AGAIN),
        ("/preupload/", 404, THERE),
        ("/objects/batch", 403, WRITE),
        ("/store/", 403, WRITE),
        ("/store/", 500, AGAIN),
        ("/store/", 0, AGAIN),
        ("/verify", 404, THERE),
        ("/commit/", 401, LOG_IN),
        ("/commit/", 0, AGAIN),
    ],
)
def test_a_push_that_fails_is_told_in_one_line_without_a_secret(where, status, mend, export, hub, tmp_path, capsys):
    hub.refuse = {where: status}
    assert export("small_clip-transformer_mean", "--push", "me/toy") == 2
    said = capsys.readouterr()
    assert said.err.startswith("stillmotion: error: --push me/toy: ")
    assert said.err.endswith(f"is written: {mend}\n")
    assert said.err.count("\n") == 1
    assert not status or f"me/toy: {status} " in said.err
    assert not {secret for secret in (hub_stub.TOKEN, "sesame") if secret in said.out + said.err}
    assert not hub.commit
    assert (tmp_path / "out" / "README.md").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("by_xet")
def test_a_push_that_xet_refuses_is_told_in_one_line(export, hub, capsys):
    hub.refuse = {"/xet-write-token/": 403}
    assert export("small_clip", "--push", "me/toy") == 2
    said = capsys.readouterr().err
    assert said.startswith("stillmotion: error: --push me/toy: ")
    assert said.count("\n") == 1
    assert hub_stub.TOKEN not in said
    assert not hub.commit


@pytest.mark.usefixtures("hub")
def test_a_bug_in_a_push_is_no_refusal_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(push, "HfApi", lambda: None)  # which has no create_repo
    with pytest.raises(AttributeError, match="create_repo"):
        push.push(tmp_path, "me/toy")


def test_a_hub_out_of_reach_is_told_in_one_line(export, hub, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert export("small_clip", "--push", "me/toy") == 2
    said = capsys.readouterr().err
    assert "--push me/toy: http://127.0.0.1:9 does not answer (" in said
    assert said.endswith(f"{AGAIN}\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("repository", ["toy", "a/b/c", "me/to y", "me/-toy"])
def test_nothing_is_written_or_asked_for_what_is_no_repository(repository, export, hub, tmp_path, capsys):
    assert export("small_clip", "--push", repository) == 2
    assert f"--push {repository}: not ORG/NAME" in capsys.readouterr().err
    assert not hub.asked
    assert not (tmp_path / "out").exists()


def test_nothing_is_asked_where_the_model_is_damaged(export, hub, changed):
    spoil_weights(changed)
    assert export("small_clip", "--push", "me/toy", root=changed) == 2
    assert not hub.asked
