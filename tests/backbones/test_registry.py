import importlib
import inspect
import typing
from dataclasses import asdict

import open_clip
import pytest
import safetensors.torch
import torch
from open_clip.transform import PreprocessCfg

from stillmotion.backbones.backbone import Backbone
from stillmotion.backbones.family_files import OPEN_CLIP, read_source
from stillmotion.backbones.open_clip_backbone import save_backbone
from stillmotion.backbones.registry import FAMILIES, load_backbone
from stillmotion.errors import InputError

WEIGHTS = "open_clip_model.safetensors"
DAMAGE = {
    "no tensors": (WEIGHTS, lambda path: safetensors.torch.save_file({}, path)),
    "other tensors": (WEIGHTS, lambda path: safetensors.torch.save_file({"x": torch.zeros(1)}, path)),
    "nothing": (WEIGHTS, lambda path: path.write_bytes(b"")),
    "half": (WEIGHTS, lambda path: path.write_bytes(path.read_bytes()[:5000])),
    "cut settings": (OPEN_CLIP, lambda path: path.write_text(path.read_text()[:20])),
    "a list": (OPEN_CLIP, lambda path: path.write_text("[]")),
    "null": (OPEN_CLIP, lambda path: path.write_text("null")),
    "digits": (OPEN_CLIP, lambda path: path.write_text("1" * 5000)),
}


@pytest.mark.parametrize("file", FAMILIES)
def test_each_family_names_a_function_that_opens_a_folder_on_a_device(file):
    module, function = FAMILIES[file]
    load = getattr(importlib.import_module(module), function)
    assert [*inspect.signature(load).parameters] == ["folder", "device"]
    assert issubclass(typing.get_type_hints(load)["return"], Backbone)


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_model_folder_is_one_line_with_the_mend(tmp_path, kind):
    vision = {"width": 32, "layers": 1, "image_size": 32, "patch_size": 8, "head_width": 16}
    text = {"width": 32, "layers": 1, "heads": 2, "context_length": 16, "vocab_size": 49408}
    settings = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    config = {"model_cfg": settings, "preprocess_cfg": asdict(PreprocessCfg(size=32))}
    save_backbone(tmp_path / "model", open_clip.CLIP(**settings), config, {"system": {}})
    name, damage = DAMAGE[kind]
    damage(tmp_path / "model" / name)
    with pytest.raises(InputError) as caught:
        load_backbone(tmp_path / "model", torch.device("cpu"))
    assert str(caught.value).startswith(f"{tmp_path / 'model'}: damaged (")
    assert str(caught.value).endswith("; remove it, and run `dvc repro` or `dvc pull`")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [ImportError("no module"), torch.OutOfMemoryError("CUDA out of memory")])
def test_what_the_machine_lacks_is_no_damage_of_the_folder(tmp_path, monkeypatch, error):
    def fail(folder, device):
        raise error

    monkeypatch.setattr("stillmotion.backbones.open_clip_backbone.load_open_clip", fail)
    (tmp_path / OPEN_CLIP).write_text("{}")
    with pytest.raises(type(error)):
        load_backbone(tmp_path, torch.device("cpu"))


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"system": 3}', "{", "1" * 5000])
def test_a_source_that_says_nothing_of_its_system_is_one_line(tmp_path, content):
    (tmp_path / "source.json").write_text(content)
    with pytest.raises(InputError, match=r"source\.json: .*; make it anew with `dvc repro`$"):
        read_source(tmp_path)
