import json

import pytest
import safetensors.torch
import torch

from stillmotion.backbones.registry import load_backbone
from stillmotion.backbones.xclip_folder import read_xclip
from stillmotion.errors import InputError


@pytest.fixture
def folder(tmp_path, xclip):
    xclip.save(tmp_path / "model", {})
    return tmp_path / "model"


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def change_tensors(path, change):
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)


def message_of(folder):
    with pytest.raises(InputError) as caught:
        read_xclip(folder, max_tokens=20)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same_weights(one, other):
    theirs = other.model.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.model.state_dict().items())


def test_tokens_are_cut_to_the_number_that_is_asked_for(folder):
    assert read_xclip(folder, max_tokens=9).tokens(["word " * 50]).shape == (1, 9)
    assert load_backbone(folder, torch.device("cpu")).tokens(["word " * 50]).shape == (1, 20)


def test_weights_in_torch_s_own_format_are_taken_where_there_are_no_others(folder, xclip):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert same_weights(read_xclip(folder, max_tokens=20), xclip)


def test_numbers_of_positions_in_older_files_are_passed_over(folder, xclip):
    def add(tensors):
        tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]

    change_tensors(folder / "model.safetensors", add)
    assert same_weights(read_xclip(folder, max_tokens=20), xclip)


def test_half_precision_files_are_loaded_in_full_precision(folder):
    def halve(tensors):
        tensors.update({name: value.half() for name, value in tensors.items()})

    change_tensors(folder / "model.safetensors", halve)
    assert {value.dtype for value in read_xclip(folder, max_tokens=20).parameters()} == {torch.float32}


def test_a_vocabulary_in_two_files_is_read_as_well(folder, xclip):
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    texts = ["A large red circle.", "it's 42 things!"]
    assert torch.equal(read_xclip(folder, max_tokens=20).tokens(texts), xclip.tokens(texts))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert message_of(folder).startswith(f"{folder / name}: no such file; a folder of an X-CLIP holds config.json, ")


def test_a_missing_tokenizer_is_named(folder):
    (folder / "tokenizer.json").unlink()
    assert message_of(folder).startswith(f"{folder / 'vocab.json'}: no such file")


def test_a_missing_tensor_is_named(folder):
    change_tensors(folder / "model.safetensors", lambda tensors: tensors.pop("visual_projection.weight"))
    assert message_of(folder) == (
        f"{folder / 'model.safetensors'}: lacks 1 tensors, 'visual_projection.weight' first; config.json beside it "
        "describes another model: take both files from one checkpoint"
    )


def test_an_unexpected_tensor_is_named(folder):
    change_tensors(folder / "model.safetensors", lambda tensors: tensors.update(surplus=torch.zeros(1)))
    assert f"{folder / 'model.safetensors'}: has besides 1 tensors, 'surplus' first" in message_of(folder)


def test_a_tensor_of_another_shape_is_named(folder):
    def widen(tensors):
        tensors["visual_projection.weight"] = torch.zeros(16, 33)

    change_tensors(folder / "model.safetensors", widen)
    message = message_of(folder)
    assert message.startswith(f"{folder / 'model.safetensors'}: visual_projection.weight has shape (16, 33)")
    assert "asks for (16, 32)" in message


def test_another_number_of_frames_than_the_weights_is_told_as_such(folder):
    change_json(folder / "config.json", lambda config: config["vision_config"].update(num_frames=8))
    assert "(it was trained with 4 frames and num_frames there is 8)" in message_of(folder)


def test_a_processor_of_another_size_is_told(folder):
    change_json(
        folder / "preprocessor_config.json", lambda settings: settings.update(crop_size={"height": 48, "width": 48})
    )
    message = message_of(folder)
    assert message.startswith(f"{folder / 'preprocessor_config.json'}: makes images of 48 px and config.json's model")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda config: config.update(model_type="clip"), "model_type is 'clip'; this family takes an 'xclip'"),
        (lambda config: config["vision_config"].update(mit_hidden_size=24), "vision_config.mit_hidden_size is 24 and"),
        (lambda config: config["vision_config"].update(num_frames="four"), "not an X-CLIP ("),
        (lambda config: config["text_config"].update(vocab_size=100), None),
    ],
)
def test_a_configuration_that_fits_nothing_is_told(folder, change, expected):
    change_json(folder / "config.json", change)
    message = message_of(folder)
    if expected:
        assert message.startswith(f"{folder / 'config.json'}: {expected}")
    else:
        assert "text_model.embeddings.token_embedding.weight has shape (49408, 32)" in message


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_that_are_none_are_named(folder, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"garbage that is no header")
    assert message_of(folder).startswith(f"{folder / name}: not ")


def test_a_folder_with_no_model_of_any_family_is_named(tmp_path):
    with pytest.raises(InputError, match="no model there; run `dvc repro`"):
        load_backbone(tmp_path, torch.device("cpu"))
