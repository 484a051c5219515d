"""The stage measure_resources, where a model has a STAN branch and a recipe says how it is trained."""

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stillmotion.backbones.stan_backbone import StanBackbone
from stillmotion.backbones.stan_expansion import expand_stan
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.config.evaluation import MeasureResourcesParams
from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.config.training import SeededRecipe
from stillmotion.errors import InputError
from stillmotion.io.tables import read_json, write_json
from stillmotion.provenance import first_party_sources
from stillmotion.training.builtin import new_builtin

SCRIPT = Path(__file__).resolve().parents[1] / "src" / "measure_resources.py"
B, F, P, W, D = 3, 4, 16, 32, 16
STAN_LAYERS = 2
RECIPE: dict[str, Any] = {
    "captions": "paragraph",
    "num_frames": F,
    "epochs": 1,
    "batch_size": B,
    "micro_batch_size": B,
    "precision": "fp32",
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "branch_learning_rate_factor": 10.0,
    "weight_decay": 0.0,
    "warmup_fraction": 0.0,
    "gradient_clip": 1.0,
    "gradient_checkpointing": False,
    "similarity": "cosine",
    "tau": 100.0,
    "loss_temperature": "learned",
    "freeze_texts": False,
    "freeze_embeddings": False,
    "frozen_blocks": 0,
    "patch_keep_rate": 1.0,
    "patch_sampling": "tubelet",
    "seed": 0,
}
SYSTEM = {"model": "small", "base": "small_clip", "expansion": None, "pretraining": None, "recipe": None, "seed": None}
RECIPES = {
    "all": SeededRecipe(**RECIPE),
    "checkpointed": SeededRecipe(**RECIPE | {"gradient_checkpointing": True}),
    "mug": SeededRecipe(**RECIPE | {"similarity": "mug"}),
    "texts_frozen": SeededRecipe(**RECIPE | {"freeze_texts": True}),
    "half": SeededRecipe(**RECIPE | {"patch_keep_rate": 0.5}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small CLIP and a STAN around it."""
    root = tmp_path_factory.mktemp("models")
    sizes = {"image_size_px": 16, "patch_size_px": 4, "width": W, "layers": 2, "text_layers": 2, "heads": 2}
    training = {"steps": 1, "batch_size": 2, "learning_rate": 1e-3, "weight_decay": 0.1, "warmup_fraction": 0.1}
    clip = new_builtin(
        BuiltinBackboneParams(family="builtin", embed_dim=D, max_sentences=1, seed=0, **sizes, **training)
    ).eval()
    settings = StanSettings(
        STAN_LAYERS, 0, 1, "branch", "self_attention", "linear", "clip", "after_attention", 6, 4, drop_path=0.5, seed=0
    )
    clip.save(root / "clip", {})
    expand_stan(clip, settings).save(root / "stan", {})
    return root


@pytest.fixture
def measured(folders, monkeypatch, tmp_path):
    """What the stage writes about a model, and a recipe."""
    spec = importlib.util.spec_from_file_location("measure_resources", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    params = SimpleNamespace(
        threads=torch.get_num_threads(),
        measure_resources=MeasureResourcesParams(batch_size=B, num_frames=F, repeats=1),
    )
    monkeypatch.setattr(module, "load_params", lambda: params)
    monkeypatch.setenv("STILLMOTION_DEVICE", "cpu")
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    def measure(model, recipe="", system=None):
        folder = tmp_path / f"{model}-{recipe}"
        shutil.copytree(folders / model, folder, dirs_exist_ok=True)
        source = {"system": SYSTEM | ({"recipe": recipe, "seed": 0} if recipe else {}) | (system or {})}
        write_json(folder / "source.json", source | ({"recipe": RECIPES[recipe].model_dump()} if recipe else {}))
        module.main(model=folder, output=tmp_path / "out.json")
        return read_json(tmp_path / "out.json")

    yield measure
    torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
    torch.set_flush_denormal(False)


def branch_flops(patches):
    """Of the branch's forward pass, by hand; 2 for each multiply-add."""
    tokens, with_class = B * F * patches, B * F * (patches + 1)
    temporal = tokens * (3 + 1 + 1) * W * W + 2 * (B * patches) * F * F * W  # queries to values, end, silent linear
    spatial = with_class * (3 + 1) * W * W + 2 * (B * F) * (patches + 1) ** 2 * W
    spatial += (tokens + B) * 8 * W * W  # a clip has one class token by then
    second_reads = (tokens + B) * W * W  # its own linear, on the patches and the mean class token
    return 2 * (STAN_LAYERS * (temporal + spatial) + (STAN_LAYERS - 1) * second_reads)


@pytest.mark.parametrize(("recipe", "patches"), [("", P), ("all", P), ("half", P // 2)])
def test_a_step_of_a_stan_costs_that_of_its_clip_and_the_branch(measured, recipe, patches):
    clip, stan = measured("clip", recipe), measured("stan", recipe)
    assert stan["forward_flops"] - clip["forward_flops"] == branch_flops(patches)
    layer = (3 + 1 + 1 + 3 + 1 + 8) * W * W + (3 + 1 + 1 + 3 + 1 + 4 + 1) * W + 3 * 2 * W
    tables = P * W + 6 * W
    branch = STAN_LAYERS * layer + (STAN_LAYERS - 1) * W * W + tables
    assert stan["parameters"] - clip["parameters"] == branch
    assert stan["trainable_parameters"] == stan["parameters"]
    assert stan["num_frames"] == F


def test_checkpoints_cost_forward_passes_again(measured):
    plain, checkpointed = measured("stan", "all"), measured("stan", "checkpointed")
    assert checkpointed["forward_flops"] == plain["forward_flops"]
    assert checkpointed["backward_flops"] > plain["backward_flops"] + branch_flops(P) / 2


def test_the_step_compares_by_what_the_recipe_compares_by(measured):
    cosine, mug = measured("stan", "all"), measured("stan", "mug")
    # Beside the towers: all tokens are projected where it was one of each text, and each is compared with each frame.
    tokens = 77
    compared = 2 * (B * tokens) * (B * F) * D
    projected = 2 * B * (tokens - 1) * W * D
    assert mug["forward_flops"] - cosine["forward_flops"] >= projected + compared - 2 * B * B * D * 2


def test_frozen_texts_are_not_trained_and_cost_nothing_backward(measured):
    plain, frozen = measured("stan", "all"), measured("stan", "texts_frozen")
    assert frozen["trainable_parameters"] < plain["trainable_parameters"]
    assert frozen["forward_flops"] == plain["forward_flops"]
    assert frozen["backward_flops"] < plain["backward_flops"]


def test_paths_are_drawn_as_in_training(measured, monkeypatch):
    drawn = []
    monkeypatch.setattr(StanBackbone, "draw_paths", lambda self, seed, first_clip: drawn.append((seed, first_clip)))
    measured("stan")
    assert drawn
    assert set(map(str, drawn)) == {"([0], 0)"}


def test_a_recipe_that_does_not_fit_the_model_is_refused(measured):
    with pytest.raises(InputError, match="gradient_checkpointing is true and OpenClipBackbone has no STAN branch"):
        measured("clip", "checkpointed")


@pytest.mark.parametrize(("recipe", "seed"), [("", None), ("half", 0)])
def test_what_was_measured_is_told_in_fields(measured, recipe, seed):
    found = measured("clip", recipe)
    assert found["system"] == SYSTEM | {"recipe": recipe or None, "seed": seed, "scorer": None}
    assert found["threads"] == torch.get_num_threads()


def test_what_was_post_pretrained_alone_is_measured_with_all_trained(measured):
    pretraining = {"recipe": None, "seed": None, "pretraining": {"dataset": "mine", "recipe": "half", "seed": 0}}
    assert measured("clip", "half", pretraining)["forward_flops"] == measured("clip")["forward_flops"]


def test_an_expansion_of_a_fine_tuned_model_is_measured_with_all_trained(measured):
    found = measured("stan", system={"expansion": "stan", "recipe": "half", "seed": 0})
    assert found["forward_flops"] == measured("stan")["forward_flops"]


def test_nothing_of_the_training_itself_is_read_by_the_stage():
    """What a recipe does to a model lies where both stages find it: a change of the training measures nothing anew."""
    names = {path.stem for path in first_party_sources(SCRIPT)}
    assert {"recipe", "similarity"} <= names
    assert not {"finetuning", "loop"} & names
