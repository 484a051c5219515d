"""Recipes with LoRA: what they train, how exactly, and the folder that holds it."""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import peft
import pytest
import ruamel.yaml
import torch
from torch.nn import functional

from stillmotion.backbones.lora import adapt, draw_inputs, merge_adapters, save_finetuned
from stillmotion.backbones.registry import load_backbone
from stillmotion.config.training import LoraParams
from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.io.tables import read_json
from stillmotion.training.captioning import require_neutral
from stillmotion.training.contrastive import shuffled_batches
from stillmotion.training.finetuning import FineTuning, finetune
from stillmotion.training.recipe import apply_recipe

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
OPEN_CLIP = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "targets": ["in_proj_weight", "c_fc", "mlp.c_proj"]}
XCLIP = {"rank": 2, "alpha": 4.0, "dropout": 0.25, "targets": ["q_proj", "v_proj", "fc1"]}
SOURCE = {"system": {"model": "tuned", "base": "m"}}


def fill_adapters(backbone):
    """B starts as zeros, with which an adapter changes nothing."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in backbone.named_parameters():
            if "lora_B" in name:
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    return backbone


def embedded(backbone):
    frames = np.random.default_rng(5).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    clips = np.array([[0, 2, 5, 7]])
    with torch.inference_mode():
        videos = backbone.embed_video(frames, clips, frames_a_pass=8)
        return torch.cat([*videos, backbone.embed_texts(backbone.tokens(["a word", "number 7"]))])


@pytest.mark.parametrize(
    ("family", "lora", "changes"),
    [
        ("open_clip", OPEN_CLIP, {}),
        ("open_clip", OPEN_CLIP | {"targets": ["c_fc"], "dropout": 0.5}, {"frozen_blocks": 1}),
        ("stan", OPEN_CLIP, {}),
        ("xclip", XCLIP, {"patch_sampling": "per_frame"}),
    ],
)
def test_micro_batches_give_the_adapters_the_gradients_of_the_whole_batch(
    corpus, double_backbone, new_recipe, family, lora, changes
):
    recipe = new_recipe(micro_batch_size=4, lora=lora, **changes)
    backbone = double_backbone(family).train()
    dropout = apply_recipe(backbone, recipe)
    fill_adapters(backbone)
    task = FineTuning(backbone, corpus.frames, corpus.train, [], recipe)
    batches = shuffled_batches(len(task.train), recipe.batch_size, seed=0, epoch=0)
    task.loss(dropout, batches, 0, 1).backward()
    trained = {name: value for name, value in backbone.named_parameters() if value.requires_grad}
    found = {name: value.grad.clone() for name, value in trained.items()}
    backbone.zero_grad(set_to_none=True)

    # All nine pairs in one pass; the loss of Radford et al. 2021, Fig. 3.
    items = batches[1].tolist()
    pixels = [task.pixels(task.train[item], np.random.default_rng([0, 0, item])) for item in items]
    dropout.draw([0, 0, 1], recipe.num_frames)
    videos = backbone.embed_clips(torch.stack(pixels))
    texts = backbone.embed_texts(backbone.tokens([task.train[item].text for item in items]))
    logits, right = backbone.logit_scale * videos @ texts.T, torch.arange(9)
    (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)).div(2).backward()
    assert len(trained) > 4
    for name, value in trained.items():
        assert (found[name] - value.grad).abs().max() <= 1e-10 * value.grad.abs().max() + 1e-15, name
    # The check sees inputs that are left out: those of another step give other gradients.
    if lora["dropout"]:
        draw_inputs(backbone, [0, 0, 2])
        assert not torch.allclose(backbone.embed_texts(backbone.tokens(["a word"])), texts[:1])


def test_trained_are_two_thin_matrices_a_layer_and_the_temperature(new_backbone, new_recipe):
    """Of 2 + 2 blocks of width 32 with an MLP of 128: in_proj 32 to 96, c_fc 32 to 128, c_proj 128 to 32."""
    backbone = new_backbone()
    apply_recipe(backbone, new_recipe(lora=OPEN_CLIP))
    trained = {name: value.numel() for name, value in backbone.named_parameters() if value.requires_grad}
    a_block = 2 * ((32 + 96) + (32 + 128) + (128 + 32))
    assert sum(trained.values()) == 4 * a_block + 1
    assert [name for name in trained if "lora_" not in name] == ["model.logit_scale"]


@pytest.mark.parametrize(
    ("changes", "blocks"),
    [({"frozen_blocks": 1}, 2), ({"freeze_texts": True}, 2), ({"frozen_blocks": 1, "freeze_texts": True}, 1)],
)
def test_a_layer_that_the_recipe_freezes_gets_no_adapter(new_backbone, new_recipe, changes, blocks):
    backbone = new_backbone()
    apply_recipe(backbone, new_recipe(lora=OPEN_CLIP | {"targets": ["c_fc"]}, **changes))
    assert sum("lora_A" in name for name, _ in backbone.named_parameters()) == blocks


def test_what_a_branch_adds_is_trained_whole(new_backbone, new_recipe):
    backbone = new_backbone("stan")
    apply_recipe(backbone, new_recipe(lora=OPEN_CLIP))
    branch = backbone.branch_parameter_names()
    trained = {name for name, value in backbone.named_parameters() if value.requires_grad}
    assert {name for name in trained if "lora_" not in name} == {"model.logit_scale", *branch}


@pytest.mark.parametrize(
    ("family", "lora"),
    [
        ("open_clip", OPEN_CLIP),
        pytest.param("stan", OPEN_CLIP, marks=pytest.mark.slow),
        pytest.param("xclip", XCLIP, marks=pytest.mark.slow),
    ],
)
def test_a_folder_opens_as_what_was_trained_and_as_peft_merges_it(new_backbone, tmp_path, family, lora):
    base = new_backbone(family)
    before = embedded(base)
    base.save(tmp_path / "base", SOURCE)
    adapt(base, LoraParams(**lora), seed=0)
    assert (embedded(base) - before).abs().max() < 1e-6
    expected = embedded(fill_adapters(base))
    assert (expected - before).abs().max() > 0.01
    save_finetuned(base, tmp_path / "tuned", SOURCE, base=tmp_path / "base")
    opened = load_backbone(tmp_path / "tuned", CPU)
    assert (embedded(opened) - expected).abs().max() < 1e-5
    # From here on it is a model like the base: its weights have the same names, and it can be saved as such.
    again = load_backbone(tmp_path / "base", CPU)
    assert opened.state_dict().keys() == again.state_dict().keys()
    assert [value.requires_grad for value in opened.parameters()] == [v.requires_grad for v in again.parameters()]
    opened.save(tmp_path / "plain", SOURCE)
    assert torch.equal(embedded(load_backbone(tmp_path / "plain", CPU)), embedded(opened))

    theirs = load_backbone(tmp_path / "base", CPU)
    theirs.model = peft.PeftModel.from_pretrained(theirs.model, str(tmp_path / "tuned")).merge_and_unload()
    assert (embedded(theirs) - expected).abs().max() < 1e-5


def test_a_folder_is_complete_and_its_bytes_follow_from_what_was_trained(new_backbone, tmp_path):
    new_backbone().save(tmp_path / "base", SOURCE)
    for name in ("a", "b"):
        backbone = load_backbone(tmp_path / "base", CPU)
        adapt(backbone, LoraParams(**OPEN_CLIP), seed=0)
        save_finetuned(fill_adapters(backbone), tmp_path / name, SOURCE, base=tmp_path / "base")

    def digests(folder):
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }

    found = digests(tmp_path / "a")
    assert found == digests(tmp_path / "b")
    assert {name.removeprefix("base/") for name in found if name.startswith("base/")} == set(digests(tmp_path / "base"))
    own = sum(
        (tmp_path / "a" / name).stat().st_size for name in found if name.endswith(".safetensors") and "/" not in name
    )
    assert own < 0.05 * (tmp_path / "base" / "open_clip_model.safetensors").stat().st_size
    settings = json.loads((tmp_path / "a" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (settings["r"], settings["lora_alpha"], settings["peft_type"]) == (2, 4.0, "LORA")
    assert settings["target_modules"] == sorted(settings["target_modules"])


def test_an_adapter_can_be_trained_on_one_that_was_trained(new_backbone, tmp_path):
    new_backbone().save(tmp_path / "base", SOURCE)
    for of, name in (("base", "once"), ("once", "twice")):
        backbone = load_backbone(tmp_path / of, CPU)
        adapt(backbone, LoraParams(**OPEN_CLIP), seed=0)
        save_finetuned(fill_adapters(backbone), tmp_path / name, SOURCE, base=tmp_path / of)
    expected = embedded(backbone)
    assert (embedded(load_backbone(tmp_path / "twice", CPU)) - expected).abs().max() < 1e-5


def test_a_training_of_adapters_goes_on_from_its_checkpoint_to_the_same_bits(
    corpus, new_backbone, new_recipe, monkeypatch, tmp_path
):
    monkeypatch.setenv("STILLMOTION_CHECKPOINT_SECONDS", "0")
    recipe = new_recipe(lora=OPEN_CLIP, micro_batch_size=5, epochs=2)

    class Killed(Exception):
        pass

    def run(memo, killed_at=None):
        backbone = new_backbone()
        embed_clips, calls = backbone.embed_clips, []

        def counted(pixels):
            calls.append(len(pixels))
            if len(calls) == killed_at:
                raise Killed
            return embed_clips(pixels)

        monkeypatch.setattr(backbone, "embed_clips", counted)
        task = FineTuning(backbone, corpus.frames, corpus.train, corpus.validation, recipe)
        return finetune(task, memo=memo, key={}), embedded(backbone)

    expected, vectors = run(Memo(None))
    with pytest.raises(Killed):
        run(Memo(tmp_path), killed_at=8)
    fitted, again = run(Memo(tmp_path))
    assert all(torch.equal(fitted.best[name], value) for name, value in expected.best.items())
    assert fitted.history == expected.history
    assert torch.equal(again, vectors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"targets": ["q_proj"]},
            "params.yaml: lora.targets has 'q_proj', which ends no name of a layer to train "
            "(c_fc, c_proj, in_proj_weight)",
        ),
        (
            {"dropout": 0.1},
            "params.yaml: lora.dropout is 0.1 and peft drops no inputs of "
            "transformer.resblocks.0.attn.in_proj_weight; set it to 0, or take in_proj_weight out of lora.targets",
        ),
    ],
)
def test_an_adapter_that_cannot_be_is_told(new_backbone, changes, message):
    with pytest.raises(InputError) as caught:
        adapt(new_backbone(), LoraParams(**OPEN_CLIP | changes), seed=0)
    assert str(caught.value) == message


def test_the_built_in_video_llm_takes_no_adapter(new_recipe):
    neutral = {"freeze_embeddings": False, "patch_keep_rate": 1.0}
    require_neutral(new_recipe(**neutral))
    with pytest.raises(InputError, match="trained to write captions is trained whole; leave out lora"):
        require_neutral(new_recipe(lora=OPEN_CLIP, **neutral))


def test_without_peft_the_extra_is_named(new_backbone, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"need peft; install the extra of that name: `pip install -e '\.\[lora\]'`"):
        adapt(new_backbone(), LoraParams(**OPEN_CLIP), seed=0)


def test_an_adapter_beside_another_base_is_told(new_backbone, tmp_path):
    backbone = new_backbone()
    backbone.save(tmp_path / "base", SOURCE)
    adapt(backbone, LoraParams(**OPEN_CLIP), seed=0)
    save_finetuned(backbone, tmp_path / "tuned", SOURCE, base=tmp_path / "base")
    path = tmp_path / "tuned" / "adapter_config.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"r": 2', '"r": 3'), encoding="utf-8")
    with pytest.raises(InputError, match=r"adapter_model.safetensors: does not fit adapter_config.json and base/ "):
        merge_adapters(new_backbone(), tmp_path / "tuned")


@pytest.mark.slow
def test_the_stages_train_measure_and_go_on_from_an_adapter(corpus, new_backbone, new_recipe, run_script, tmp_path):
    system = dict.fromkeys(("expansion", "pretraining", "recipe", "seed")) | {"model": "m", "base": "m"}
    new_backbone().save(tmp_path / "base", {"system": system})
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, lora in (("small", {"lora": OPEN_CLIP}), ("whole", {})):
        params["recipes"][name] = new_recipe(epochs=1, **lora).model_dump(exclude={"seed"})
    params["threads"] = 1
    yaml.dump(params, tmp_path / "params.yaml")

    def run(name, *options, env=os.environ | {"STILLMOTION_MEMO": "off", "STILLMOTION_DEVICE": "cpu"}):
        done = run_script(name, *options, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr

    data = ("--seed", "0", "--raw", corpus.raw, "--frames", corpus.frames_folder, "--plot", "plot.json")
    run("finetune", "--recipe", "small", "--backbone", "base", "--output", "tuned", *data)
    run("measure_resources", "--model", "tuned", "--output", "costs.json")
    run("finetune", "--recipe", "whole", "--backbone", "tuned", "--output", "whole", *data)
    assert {path.name for path in (tmp_path / "tuned").iterdir()} == {
        *("adapter_config.json", "adapter_model.safetensors", "trained.safetensors", "source.json", "base")
    }
    assert not (tmp_path / "whole" / "base").exists()
    source = read_json(tmp_path / "tuned" / "source.json")
    assert (source["recipe"]["lora"], source["system"]["recipe"]) == (OPEN_CLIP, "small")
    costs = read_json(tmp_path / "costs.json")
    assert costs["trainable_parameters"] == 4 * 2 * ((32 + 96) + (32 + 128) + (128 + 32)) + 1
