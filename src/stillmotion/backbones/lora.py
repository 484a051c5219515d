"""LoRA by peft: low-rank adapters of linear layers are trained, and the layers stay as they are.

Adapted is what would have been trained: layers that a recipe freezes get no adapter. Beside the adapters, the
temperature and what a branch or a head adds to an image model are trained whole.

A model folder holds `adapter_config.json` and `adapter_model.safetensors` as peft reads them, `trained.safetensors`
with what was trained whole, and in `base/` the files of the model that was adapted, linked: DVC's cache has each once,
and a folder that is pulled is complete. Opened, the adapters are merged: it embeds at the base model's speed, and
fine-tunes, expands and saves as such.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.
"""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import Linear, MultiheadAttention

from stillmotion.backbones import family_files
from stillmotion.backbones.backbone import Backbone
from stillmotion.config.training import LoraParams
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder, link_or_copy
from stillmotion.io.tables import write_json
from stillmotion.io.weights import load_tensors, save_tensors

CONFIG = family_files.LORA
WEIGHTS = "adapter_model.safetensors"
WHOLE = "trained.safetensors"
BASE = "base"
_PREFIX = "base_model.model."
"""Of the names in peft's files."""
_ADAPTER = ("lora_A", "lora_B")


class InputDropout(torch.nn.Module):
    """Leaves out inputs of an adapter: the same ones for all that passes in a step, whatever its parts."""

    factors: torch.Tensor

    def __init__(self, rate: float, num_inputs: int):
        super().__init__()
        self.rate = rate
        self.register_buffer("factors", torch.ones(num_inputs), persistent=False)

    def draw(self, seed: list[int]) -> None:
        kept = np.random.default_rng(seed).random(len(self.factors)) >= self.rate
        self.factors = torch.from_numpy(kept / (1 - self.rate)).to(self.factors)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * self.factors.to(inputs.dtype) if self.training else inputs


def adapt(backbone: Backbone, params: LoraParams, *, seed: int) -> None:
    """Give a backbone adapters, which change nothing before they are trained; all else but the above is frozen.

    Raises:
        InputError: peft is not installed, a target is no layer that could be adapted, or its inputs can't be dropped.
    """
    peft = _peft()
    found = dict(_adaptable(backbone.model))
    chosen = {name: layer for name, layer in found.items() if any(_ends(name, end) for end in params.targets)}
    for end in params.targets:
        if not any(_ends(name, end) for name in chosen):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in found})) or "none"
            raise InputError(f"params.yaml: lora.targets has {end!r}, which ends no name of a layer to train ({known})")
    parameters = sorted(name for name, layer in chosen.items() if isinstance(layer, MultiheadAttention))
    if parameters and params.dropout:
        raise InputError(
            f"params.yaml: lora.dropout is {params.dropout} and peft drops no inputs of {parameters[0]}; set it to 0, "
            "or take in_proj_weight out of lora.targets"
        )
    whole = {"model.logit_scale", *backbone.branch_parameter_names()}
    trained = [value for name, value in backbone.named_parameters() if value.requires_grad and name in whole]
    config = peft.LoraConfig(
        r=params.rank,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules=sorted(chosen.keys() - set(parameters)),
        target_parameters=parameters or None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone.requires_grad_(False)
        peft.LoraModel(backbone.model, config, "default")
    for value in trained:
        value.requires_grad_(True)
    for layer in _tuned(backbone, peft) if params.dropout else ():
        layer.lora_dropout["default"] = InputDropout(params.dropout, layer.in_features).to(backbone.device)


def draw_inputs(backbone: Backbone, seed: list[int]) -> None:
    """Choose the inputs that adapters leave out in the next step; without adapters there are none."""
    for place, module in enumerate(part for part in backbone.modules() if isinstance(part, InputDropout)):
        module.draw([*seed, place])


def save_finetuned(backbone: Backbone, folder: Path, source: dict[str, Any], *, base: Path) -> None:
    """Write the model folder of a backbone that was made of that of `base`; of an adapted one what was trained."""
    config = getattr(getattr(backbone, "model", None), "peft_config", None)
    if config is None:
        backbone.save(folder, source)
        return
    trained = {name: value for name, value in backbone.named_parameters() if value.requires_grad}
    adapters = {name: value for name, value in trained.items() if any(part in name for part in _ADAPTER)}
    with atomic_folder(folder) as partial:
        settings = {name: _plain(value) for name, value in config["default"].to_dict().items()}
        write_json(partial / CONFIG, settings)
        write_json(partial / "source.json", source)
        save_tensors(partial / WEIGHTS, {_file_name(name): value for name, value in adapters.items()})
        save_tensors(partial / WHOLE, {name: trained[name] for name in trained.keys() - adapters.keys()})
        for path in sorted(base.rglob("*")):
            if path.is_file():
                link_or_copy(path, partial / BASE / path.relative_to(base))


def merge_adapters(backbone: Backbone, folder: Path) -> Backbone:
    """Give the model of a folder's `base/` what the folder says was trained, in place.

    Raises:
        InputError: peft is not installed, or a file is missing or does not fit the others; one line that names it.
    """
    peft, learns = _peft(), {name: value.requires_grad for name, value in backbone.named_parameters()}
    tuner = peft.LoraModel(backbone.model, peft.LoraConfig.from_pretrained(str(folder)), "default")
    named = dict(backbone.named_parameters())
    adapters = {_file_name(name): value for name, value in named.items() if any(part in name for part in _ADAPTER)}
    _fill(adapters, folder / WEIGHTS, complete=True)
    _fill(named, folder / WHOLE)
    backbone.model = tuner.merge_and_unload()
    for name, value in backbone.named_parameters():
        value.requires_grad_(learns[name])
    return backbone


def _fill(wanted: dict[str, torch.nn.Parameter], path: Path, *, complete: bool = False) -> None:
    found, _ = load_tensors(path, may_be_none=not complete)
    odd = [name for name, value in found.items() if name not in wanted or wanted[name].shape != value.shape]
    odd += wanted.keys() - found.keys() if complete else ()
    if odd:
        raise InputError(
            f"{path}: does not fit {CONFIG} and {BASE}/ beside it ({len(odd)} tensors, {min(odd)!r} first); take all "
            "files from one model"
        )
    with torch.no_grad():
        for name, value in found.items():
            wanted[name].copy_(value)


def _adaptable(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Linear layers that are trained by name, and attentions of torch by that of the matrix that holds three of them.

    An attention's own out_proj is none: torch reads its weight past what peft puts around it.
    """
    modules = dict(model.named_modules())
    for name, module in modules.items():
        inner = isinstance(modules[name.rpartition(".")[0]], MultiheadAttention)
        if isinstance(module, Linear) and not inner and module.weight.requires_grad:
            yield name, module
        elif isinstance(module, MultiheadAttention) and getattr(module.in_proj_weight, "requires_grad", False):
            yield f"{name}.in_proj_weight", module


def _ends(name: str, end: str) -> bool:
    return f".{name}".endswith(f".{end}")


def _tuned(backbone: Backbone, peft: Any) -> list[Any]:
    return [part for part in backbone.modules() if isinstance(part, peft.tuners.lora.LoraLayer)]


def _file_name(name: str) -> str:
    """As peft's files have the name of an adapter's parameter of `backbone.model`."""
    return _PREFIX + name.removeprefix("model.").replace(".default.", ".")


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)  # a set has no order
    return value.value if isinstance(value, Enum) else value


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise InputError(
            "adapters by LoRA need peft; install the extra of that name: `pip install -e '.[lora]'`"
        ) from None
    return peft
