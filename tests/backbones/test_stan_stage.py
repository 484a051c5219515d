"""The stage expand_backbone, as far as it knows STAN."""

import importlib.util
import json
from dataclasses import asdict, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.backbones.registry import load_backbone
from stillmotion.backbones.stan_backbone import StanBackbone
from stillmotion.backbones.stan_settings import ClassToken, ClassTokenMean, InterProj, StanSettings, Structure, Temporal
from stillmotion.backbones.xclip_backbone import XClipBackbone
from stillmotion.config.models import XClipExpansionParams
from stillmotion.config.section import Section
from stillmotion.errors import InputError

SCRIPT = Path(__file__).resolve().parents[2] / "src" / "expand_backbone.py"
CPU = torch.device("cpu")


class Params(Section):
    family: Literal["stan"]
    num_layers: int
    skipped_layers: int
    interval: int
    structure: Structure
    temporal: Temporal
    inter_proj: InterProj
    class_token: ClassToken
    class_token_mean: ClassTokenMean
    max_frames: int
    context_frames: int
    drop_path: float
    seed: int


STAN = Params(
    family="stan",
    num_layers=2,
    skipped_layers=0,
    interval=1,
    structure="branch",
    temporal="self_attention",
    inter_proj="linear",
    class_token="clip",
    class_token_mean="after_attention",
    max_frames=6,
    context_frames=4,
    drop_path=0.1,
    seed=3,
)
XCLIP = XClipExpansionParams(family="xclip", num_frames=4, integration_layers=1, prompt_layers=1, max_tokens=72, seed=0)


@pytest.fixture
def stage(monkeypatch):
    """The script as a module, with both families in its params."""
    spec = importlib.util.spec_from_file_location("expand_backbone", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "load_params", lambda: SimpleNamespace(expansions={"stan": STAN, "xclip": XCLIP}))
    return module


SOURCE = {
    "system": {
        "model": "clip",
        "base": "small",
        "expansion": None,
        "pretraining": {"dataset": "mine", "recipe": "narrations", "seed": 0},
        "recipe": None,
        "seed": None,
    },
    "from": "a test",
}


@pytest.fixture
def clip_folder(tmp_path):
    tower = {"width": 32, "layers": 2, "image_size": 32, "patch_size": 8, "head_width": 16}
    text = {"width": 32, "layers": 2, "heads": 2, "context_length": 77, "vocab_size": 49408}
    config = {
        "model_cfg": {"embed_dim": 16, "vision_cfg": tower, "text_cfg": text},
        "preprocess_cfg": asdict(PreprocessCfg(size=32)),
    }
    model = open_clip.CLIP(**json.loads(json.dumps(config["model_cfg"])))
    open_clip.model.set_model_preprocess_cfg(model, config["preprocess_cfg"])
    OpenClipBackbone(model, open_clip.SimpleTokenizer(), config).save(tmp_path / "clip", SOURCE)
    return tmp_path / "clip"


@pytest.mark.slow
def test_the_family_of_the_expansion_decides_what_is_built(stage, clip_folder, tmp_path):
    stage.main("stan", clip_folder, tmp_path / "stan")
    stage.main("xclip", clip_folder, tmp_path / "xclip")
    stan = load_backbone(tmp_path / "stan", CPU)
    assert isinstance(stan, StanBackbone)
    assert asdict(stan.settings) == STAN.model_dump(exclude={"family"})
    assert isinstance(load_backbone(tmp_path / "xclip", CPU), XClipBackbone)
    source = json.loads((tmp_path / "stan" / "source.json").read_text())
    system = SOURCE["system"] | {"model": "stan", "expansion": "stan"}
    assert source == {"system": system, "backbone": SOURCE, "expansion": "stan", "seed": 3}


def test_params_and_settings_have_the_same_fields():
    assert [*Params.model_fields] == ["family", *(field.name for field in fields(StanSettings))]


@pytest.mark.parametrize("expansion", ["stan", "xclip"])
def test_a_stan_is_not_expanded_again(stage, clip_folder, tmp_path, expansion):
    stage.main("stan", clip_folder, tmp_path / "stan")
    with pytest.raises(InputError) as caught:
        stage.main(expansion, tmp_path / "stan", tmp_path / "again")
    assert str(caught.value) == (
        f"{tmp_path / 'stan'}: only models of open_clip can be expanded; take this one out of `expanded`"
    )
    assert not (tmp_path / "again").exists()
