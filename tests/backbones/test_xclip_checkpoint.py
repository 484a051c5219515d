import hashlib

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

from stillmotion.backbones import xclip_checkpoint
from stillmotion.backbones.xclip_checkpoint import pretrained_xclip
from stillmotion.config.models import XClipBackboneParams
from stillmotion.errors import InputError

REPOSITORY = "microsoft/xclip-base-patch32"
COMMIT = "a2e27a78a2b5d802e894b8a1ef14f3a8ce490963"


def make_params(checkpoint=REPOSITORY, max_tokens=12):
    return XClipBackboneParams(family="xclip", checkpoint=checkpoint, revision="v1", max_tokens=max_tokens)


def message_of(params, weights_folder):
    with pytest.raises(InputError) as caught:
        pretrained_xclip("mine", params, weights_folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class _Response:
    headers: dict[str, str] = {}
    request = None


@pytest.fixture
def hub(monkeypatch, tmp_path, xclip):
    """hf_hub_download on a hub that has a small X-CLIP, laid out as in the cache of huggingface_hub."""
    stored = tmp_path / "hub"
    xclip.save(stored, {})
    calls = []

    def download(repository, filename, *, revision):
        calls.append((repository, filename, revision))
        if not (stored / filename).is_file():
            raise RemoteEntryNotFoundError(filename, response=_Response())
        path = tmp_path / f"models--{repository.replace('/', '--')}" / "snapshots" / COMMIT / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((stored / filename).read_bytes())
        return str(path)

    monkeypatch.setattr(xclip_checkpoint, "hf_hub_download", download)
    monkeypatch.setattr(xclip_checkpoint, "try_hub", lambda: None)
    download.stored, download.calls = stored, calls
    return download


def test_a_checkpoint_of_the_hub_comes_with_its_commit_and_digest(hub, xclip, tmp_path):
    backbone, source = pretrained_xclip("mine", make_params(), tmp_path / "weights")
    digest = hashlib.sha256((hub.stored / "model.safetensors").read_bytes()).hexdigest()
    assert source == {"checkpoint": REPOSITORY, "revision": COMMIT, "file": "model.safetensors", "sha256": digest}
    assert {(repository, revision) for repository, _, revision in hub.calls} == {(REPOSITORY, "v1")}
    assert backbone.tokens(["word " * 20]).shape == (1, 12)
    for name, value in xclip.model.state_dict().items():
        assert torch.equal(backbone.model.state_dict()[name], value)


def test_a_checkpoint_without_safetensors_gives_its_older_file(hub, xclip, tmp_path):
    (hub.stored / "model.safetensors").unlink()
    torch.save(xclip.model.state_dict(), hub.stored / "pytorch_model.bin")
    _, source = pretrained_xclip("mine", make_params(), tmp_path / "weights")
    assert source["file"] == "pytorch_model.bin"


def test_a_checkpoint_without_a_processor_says_so(hub, tmp_path):
    (hub.stored / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json" in message_of(make_params(), tmp_path / "weights")


def test_a_folder_put_in_place_is_taken_without_asking_the_hub(hub, xclip, tmp_path):
    xclip.save(tmp_path / "weights" / "mine", {})
    _, source = pretrained_xclip("mine", make_params("folder"), tmp_path / "weights")
    assert source["checkpoint"] == "folder"
    assert source["file"] == "model.safetensors"
    assert hub.calls == []


def test_a_folder_that_is_not_in_place_is_named(tmp_path):
    message = message_of(make_params("folder"), tmp_path)
    assert message.startswith(f"{tmp_path / 'mine' / 'config.json'}: no such file; a folder of an X-CLIP holds")


def test_more_tokens_than_the_context_are_told(hub, tmp_path):
    assert message_of(make_params(max_tokens=78), tmp_path).startswith("params.yaml: max_tokens is 78")


def assert_names_the_way_out(message, weights):
    assert message.startswith(f"backbone mine: can't fetch {REPOSITORY} at v1 (")
    assert (
        f"put them in {(weights / 'mine').as_posix()} and set backbones.mine.checkpoint: folder in params.yaml"
        in message
    )


def test_a_hub_that_can_not_be_reached_is_asked_once_and_the_way_out_named(monkeypatch, tmp_path):
    calls = []

    def download(repository, filename, *, revision):
        calls.append(filename)
        raise LocalEntryNotFoundError("An error happened while trying to locate the file on the Hub.\nMore.")

    monkeypatch.setattr(xclip_checkpoint, "hf_hub_download", download)
    monkeypatch.setattr(xclip_checkpoint, "try_hub", lambda: None)
    assert_names_the_way_out(message_of(make_params(), tmp_path), tmp_path)
    assert calls == ["config.json"]


def test_without_a_network_the_message_names_checkpoint_folder_and_param(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert_names_the_way_out(message_of(make_params(), tmp_path), tmp_path)


def test_a_name_that_is_no_repository_is_told_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(xclip_checkpoint, "try_hub", lambda: None)
    message = message_of(make_params("not/a/repository"), tmp_path)
    assert message.startswith("backbone mine: can't fetch not/a/repository at v1 (")
