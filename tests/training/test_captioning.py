"""Training of the built-in video LLM to write captions."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml
import torch

from stillmotion.backbones.registry import load_embeds
from stillmotion.backbones.video_llm.builtin import BuiltinVideoLLM, expand_video_llm
from stillmotion.config.models import BuiltinVideoLLMParams
from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.io.tables import read_json
from stillmotion.training.captioning import NEUTRAL, Captioning
from stillmotion.training.finetuning import finetune

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parents[2]
SYSTEM = {"model": "m", "base": "m", "expansion": None, "pretraining": None, "recipe": None, "seed": None}
CHANGES = {"freeze_embeddings": False, "patch_keep_rate": 1.0, "learning_rate": 1e-2}


def make_video_llm(clip):
    sizes = {"width": 16, "blocks": 2, "heads": 2, "mlp_width": 24, "seed": 0, "num_frames": 4, "max_tokens": 30}
    said = {"prompt": "{video}", "text_prompt": "{text}", "system": "", "chat_template": "none"}
    kept = {"layer": "last", "pooling": "mean", "layers": "all", "poolings": ["mean"], "keep_tokens_of": None}
    said |= {"text_chat_template": "none", "precision": "fp32"}
    return expand_video_llm(clip, BuiltinVideoLLMParams(family="builtin_video_llm", **sizes, **said, **kept))


@pytest.fixture
def task(corpus, new_recipe, new_backbone):
    """Makes one, with changes to the recipe."""

    def make(**changes):
        recipe = new_recipe(**CHANGES | changes)
        return Captioning(make_video_llm(new_backbone()), corpus.frames, corpus.train, corpus.validation, recipe)

    return make


def test_it_learns_to_write_while_the_image_model_stays_and_the_best_epoch_is_kept(task):
    learner = task(epochs=4)
    before = {name: value.clone() for name, value in learner.backbone.state_dict().items()}
    fitted = finetune(learner, memo=Memo(None), key={})
    assert fitted.history[-1]["loss"] < 0.9 * fitted.history[0]["loss"]
    scores = [row["score"] for row in fitted.history]
    assert fitted.best_epoch == int(np.argmax(scores))
    assert learner.validation_score() == pytest.approx(max(scores), abs=1e-6)
    after = learner.backbone.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {name for name in after if name.startswith("own.")}


def test_parts_of_a_batch_give_the_same_gradients_as_all_of_it(task):
    gradients = []
    for size in (9, 4):
        learner = task(micro_batch_size=size)
        dropout, _ = learner.prepare()
        learner.loss(dropout, [torch.arange(9)], 0, 0).backward()
        gradients.append([value.grad.clone() for value in learner.backbone.own.parameters()])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "mend"),
    [
        ({"similarity": "mug"}, "similarity of a recipe .* set it to cosine"),
        ({"freeze_embeddings": True}, "set it to false"),
        ({"captions": "class_names"}, "set captions: paragraph"),
    ],
)
def test_a_recipe_that_asks_for_what_plays_no_part_is_refused_with_the_mend(task, changes, mend):
    with pytest.raises(InputError, match=mend):
        task(**changes).prepare()
    assert set(NEUTRAL) <= set(task().recipe.model_dump())


@pytest.mark.slow
def test_the_stage_trains_it_twice_to_the_same_bytes(corpus, new_recipe, new_backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLMOTION_MEMO", "off")
    params = ruamel.yaml.YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["recipes"] = {"write": new_recipe(**CHANGES).model_dump(exclude={"seed"})}
    params |= {"finetuned": {}, "retrieval": {}, "threads": 1}
    params["run"] |= {name: [] for name in ("embedded", "probed", "assessed", "selected")}
    ruamel.yaml.YAML(typ="safe", pure=True).dump(params, tmp_path / "params.yaml")
    make_video_llm(new_backbone()).save(tmp_path / "start", {"system": SYSTEM})
    spec = importlib.util.spec_from_file_location("finetune_stage", ROOT / "src" / "finetune.py")
    stage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stage)
    folders = tmp_path / "a" / "m", tmp_path / "b" / "m"
    for folder in folders:
        stage.main(
            "write", 0, tmp_path / "start", corpus.raw, corpus.frames_folder, folder, folder.parent / "plot.json"
        )
    written = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert written[0] == written[1]
    assert written[0]["builtin_llm.safetensors"] != (tmp_path / "start" / "builtin_llm.safetensors").read_bytes()
    assert isinstance(load_embeds(folders[0], torch.device("cpu")), BuiltinVideoLLM)
    assert read_json(folders[0] / "source.json")["system"] == SYSTEM | {"recipe": "write", "seed": 0}
