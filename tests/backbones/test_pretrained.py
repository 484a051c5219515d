import hashlib
import json

import huggingface_hub
import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from stillmotion.backbones import pretrained
from stillmotion.backbones.open_clip_backbone import load_open_clip, save_backbone
from stillmotion.backbones.pretrained import find_tokenizer, find_weights, open_clip_config, pretrained_model
from stillmotion.config.models import OpenClipBackboneParams
from stillmotion.errors import InputError

TINY = "stillmotion-test-tiny"
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Radford et al. 2021's own preprocessing."""
COMMIT = "1a25a446712ba5ee05982a381eed697ef9b435cf"


@pytest.fixture(scope="module", autouse=True)
def tiny_architecture(tmp_path_factory):
    config = {
        "embed_dim": 16,
        "vision_cfg": {"width": 32, "layers": 1, "image_size": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {"width": 32, "layers": 1, "heads": 2, "context_length": 77, "vocab_size": 49408},
    }
    folder = tmp_path_factory.mktemp("configs")
    (folder / f"{TINY}.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(folder)


def make_params(architecture=TINY, pretrained="random", revision="main", seed=0):
    return OpenClipBackboneParams(
        family="open_clip", architecture=architecture, pretrained=pretrained, revision=revision, seed=seed
    )


def outputs(model):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    tokens = open_clip.SimpleTokenizer()(["a red ball", "two"])
    with torch.no_grad():
        return torch.cat([model.eval().encode_image(images), model.encode_text(tokens)])


def message_of(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_architecture_is_named_with_where_to_look():
    message = message_of(open_clip_config, make_params("ViT-B-33"))
    assert message.startswith("params.yaml: architecture 'ViT-B-33' is none of open_clip's; ")
    assert "open_clip.list_models()" in message


def test_an_unknown_tag_is_named_with_those_that_there_are():
    message = message_of(open_clip_config, make_params("ViT-B-32", "laion3b"))
    assert message.startswith("params.yaml: pretrained 'laion3b' is no tag of ViT-B-32; set file, random or one of: ")
    assert "laion2b_s34b_b79k" in message


def test_an_architecture_without_tags_says_so():
    assert message_of(open_clip_config, make_params(TINY, "openai")).endswith("set file, random or one of: none")


# From open_clip's README ("use -quickgelu models with openai weights") and the model cards.
@pytest.mark.parametrize(
    ("architecture", "tag", "quick_gelu", "mean", "size"),
    [
        ("ViT-B-32", "openai", True, OPENAI_MEAN, 224),
        ("ViT-B-32", "laion2b_s34b_b79k", False, OPENAI_MEAN, 224),
        ("ViT-B-32-quickgelu", "openai", True, OPENAI_MEAN, 224),
        ("ViT-B-16-SigLIP", "webli", False, (0.5, 0.5, 0.5), 224),
        ("ViT-L-14-336", "openai", True, OPENAI_MEAN, 336),
        ("ViT-B-32", "random", False, OPENAI_MEAN, 224),
    ],
)
def test_activation_and_preprocessing_are_those_of_the_tag(architecture, tag, quick_gelu, mean, size):
    config = open_clip_config(make_params(architecture, tag))
    assert config["model_cfg"].get("quick_gelu", False) == quick_gelu
    assert tuple(config["preprocess_cfg"]["mean"]) == mean
    assert config["preprocess_cfg"]["size"] == size


def test_asking_for_a_configuration_does_not_change_open_clip_s_own():
    open_clip_config(make_params("ViT-B-32", "openai"))
    assert "quick_gelu" not in open_clip.get_model_config("ViT-B-32")


def test_random_weights_are_decided_by_the_seed_and_leave_the_global_generator_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first, _, source = pretrained_model("x", make_params(seed=3), tmp_path)
    assert torch.equal(torch.rand(2), expected)
    again, _, _ = pretrained_model("x", make_params(seed=3), tmp_path)
    other, _, _ = pretrained_model("x", make_params(seed=4), tmp_path)
    assert torch.equal(outputs(first), outputs(again))
    assert not torch.allclose(outputs(first), outputs(other))
    assert source == {"architecture": TINY, "pretrained": "random", "seed": 3}


def test_a_local_file_that_is_not_there_is_named_with_what_to_put_in_it(tmp_path):
    message = message_of(find_weights, "mine", make_params(pretrained="file"), tmp_path)
    assert message == f"{tmp_path / 'mine.safetensors'}: no such file; put the weights of {TINY} there"


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin", ".pth"])
def test_a_local_file_of_any_kind_loads_to_the_model_it_came_from(tmp_path, suffix):
    torch.manual_seed(11)
    original = open_clip.create_model(TINY)
    path = tmp_path / f"mine{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(original.state_dict(), path)
    else:
        torch.save(original.state_dict(), path)
    model, config, source = pretrained_model("mine", make_params(pretrained="file"), tmp_path)
    assert torch.equal(outputs(model), outputs(original))
    assert source["file"] == f"mine{suffix}"
    assert source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    save_backbone(tmp_path / "model", model, config, source)
    assert torch.equal(outputs(load_open_clip(tmp_path / "model", torch.device("cpu")).model), outputs(original))


def test_the_training_checkpoint_of_open_clip_loads_too(tmp_path):
    original = open_clip.create_model(TINY)
    state = {f"module.{name}": value for name, value in original.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "mine.pt")
    model, _, _ = pretrained_model("mine", make_params(pretrained="file"), tmp_path)
    assert torch.equal(outputs(model), outputs(original))


def other_architecture(path):
    torch.save({"weight": torch.zeros(2)}, path)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".pt", other_architecture),
        (".pt", lambda path: path.write_bytes(b"garbage")),
        (".pt", lambda path: path.write_bytes(b"")),
        (".pt", lambda path: path.write_bytes(b"PK\x03\x04 cut short")),
        (".safetensors", lambda path: path.write_bytes(b"garbage that is no header")),
        (".safetensors", lambda path: safetensors.torch.save_file({}, path)),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, suffix, write):
    path = tmp_path / f"mine{suffix}"
    write(path)
    message = message_of(pretrained_model, "mine", make_params(pretrained="file"), tmp_path)
    assert message.startswith(f"{path}: does not fit {TINY} (")
    assert message.endswith("; check both")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """hf_hub_download on a hub that has what stands in `files`, laid out as in the cache of huggingface_hub."""

    class Hub:
        files: dict[str, bytes]
        calls: list[tuple[str, str, str]]

    hub = Hub()
    hub.files, hub.calls = {}, []

    def download(repository, filename, *, revision):
        hub.calls.append((repository, filename, revision))
        if filename not in hub.files:
            raise RemoteEntryNotFoundError(filename, response=huggingface_response())
        path = tmp_path / f"models--{repository.replace('/', '--')}" / "snapshots" / COMMIT / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hub.files[filename])
        return str(path)

    monkeypatch.setattr(pretrained, "hf_hub_download", download)
    monkeypatch.setattr(pretrained, "try_hub", lambda: None)
    return hub


def huggingface_response():
    class Response:
        headers: dict[str, str] = {}
        request = None

    return Response()


def test_the_hub_s_commit_and_the_file_s_digest_are_recorded(hub, tmp_path):
    hub.files = {"open_clip_model.safetensors": b"weights"}
    path, source = find_weights("x", make_params("ViT-B-32", "laion2b_s34b_b79k", revision="v1"), tmp_path)
    assert path.read_bytes() == b"weights"
    assert source == {
        "repository": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "revision": COMMIT,
        "file": "open_clip_model.safetensors",
        "sha256": hashlib.sha256(b"weights").hexdigest(),
    }
    assert hub.calls == [("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors", "v1")]


def test_a_repository_without_safetensors_gives_its_older_file(hub, tmp_path):
    hub.files = {"open_clip_pytorch_model.bin": b"older"}
    path, source = find_weights("x", make_params("ViT-B-32", "laion2b_s34b_b79k"), tmp_path)
    assert path.name == source["file"] == "open_clip_pytorch_model.bin"


def test_a_repository_with_a_file_name_of_its_own_gives_that_file(hub, tmp_path):
    hub.files = {"pytorch_model.bin": b"vitamin"}
    _, source = find_weights("x", make_params("ViTamin-S", "datacomp1b"), tmp_path)
    assert (source["repository"], source["file"]) == ("jienengchen/ViTamin-S", "pytorch_model.bin")


def test_a_tokenizer_that_is_not_open_clip_s_own_comes_from_the_folder_of_the_backbone(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    params = make_params("ViT-B-16-SigLIP2")
    message = message_of(find_tokenizer, "mine", params, tmp_path)
    assert message.startswith("backbone mine: no tokenizer timm/ViT-B-16-SigLIP2 (")
    assert message.endswith(f"and put them in {(tmp_path / 'mine').as_posix()}")
    words = WordLevel({"<pad>": 0, "<unk>": 1, "red": 2, "ball": 3}, unk_token="<unk>")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(
        tmp_path / "mine"
    )
    # SigLIP 2 has 64 tokens, and cleans its texts.
    (tokens,) = find_tokenizer("mine", params, tmp_path)(["Red ball!"])
    assert tokens.tolist() == [2, 3] + [0] * 62


def assert_names_the_way_out(message, folder):
    assert "can't fetch laion/CLIP-ViT-B-32-laion2B-s34B-b79K/open_clip_model.safetensors (" in message
    assert f"put it at {(folder / 'mine.safetensors').as_posix()}" in message
    assert message.endswith("and set backbones.mine.pretrained: file in params.yaml")
    assert "\n" not in message


def test_without_a_network_the_message_names_repository_file_and_param(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    params = make_params("ViT-B-32", "laion2b_s34b_b79k")
    assert_names_the_way_out(message_of(find_weights, "mine", params, tmp_path), tmp_path)


def test_a_hub_that_can_not_be_reached_is_asked_for_one_file_only(monkeypatch, tmp_path):
    # huggingface_hub itself tries for about 25 s before it says so.
    calls = []

    def download(repository, filename, *, revision):
        calls.append(filename)
        raise LocalEntryNotFoundError("An error happened while trying to locate the file on the Hub.\nMore.")

    monkeypatch.setattr(pretrained, "hf_hub_download", download)
    monkeypatch.setattr(pretrained, "try_hub", lambda: None)
    message = message_of(find_weights, "mine", make_params("ViT-B-32", "laion2b_s34b_b79k"), tmp_path)
    assert_names_the_way_out(message, tmp_path)
    assert calls == ["open_clip_model.safetensors"]


def test_a_tag_with_quick_gelu_builds_and_saves_a_model_that_uses_it(hub, monkeypatch, tmp_path):
    original = open_clip.create_model(TINY, force_quick_gelu=True)
    hub.files = {"open_clip_model.safetensors": safetensors.torch.save(original.state_dict())}
    tag = {"hf_hub": "someone/tiny/", "quick_gelu": True, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    monkeypatch.setattr(pretrained, "get_pretrained_cfg", lambda architecture, name: tag)
    model, config, source = pretrained_model("x", make_params(pretrained="some_tag"), tmp_path)
    assert torch.equal(outputs(model), outputs(original))
    without = open_clip.create_model(TINY)
    without.load_state_dict(original.state_dict())
    assert not torch.allclose(outputs(without), outputs(original))
    save_backbone(tmp_path / "model", model, config, source)
    loaded = load_open_clip(tmp_path / "model", torch.device("cpu"))
    assert torch.equal(outputs(loaded.model), outputs(original))
    np.testing.assert_array_equal(loaded.mean.flatten().numpy(), np.float32([0.5, 0.5, 0.5]))
    assert json.loads((tmp_path / "model" / "source.json").read_text()) == source
