"""Weights of any open_clip model: from the hub, from a local file, or random."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError
from open_clip.pretrained import (
    download_pretrained_from_url,
    get_pretrained_cfg,
    list_pretrained_tags_by_model,
)
from open_clip.transform import PreprocessCfg

from stillmotion.backbones.hub import try_hub
from stillmotion.config.models import OpenClipBackboneParams
from stillmotion.config.places import how_to_set
from stillmotion.errors import InputError
from stillmotion.io.memo import file_digest

LOCAL_SUFFIXES = (".safetensors", ".pt", ".bin", ".pth")
_HUB_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def open_clip_config(params: OpenClipBackboneParams) -> dict[str, Any]:
    """The model's configuration, with the preprocessing and activation that its pretrained tag was trained with.

    Raises:
        InputError: unknown architecture or pretrained tag.
    """
    architecture = params.architecture
    model = open_clip.get_model_config(architecture)
    if model is None:
        raise InputError(
            f"params.yaml: architecture {architecture!r} is none of open_clip's; "
            "`python -c 'import open_clip; print(open_clip.list_models())'` lists them"
        )
    tag: dict[str, Any] = {}
    if params.pretrained not in ("file", "random"):
        tag = get_pretrained_cfg(architecture, params.pretrained)
        if not tag:
            known = ", ".join(list_pretrained_tags_by_model(architecture)) or "none"
            raise InputError(
                f"params.yaml: pretrained {params.pretrained!r} is no tag of {architecture}; "
                f"set file, random or one of: {known}"
            )
        if tag.get("quick_gelu"):
            model["quick_gelu"] = True
    preprocess = {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if tag.get(key)}
    size = model["vision_cfg"]["image_size"]
    return {"model_cfg": model, "preprocess_cfg": asdict(PreprocessCfg(size=size, **preprocess))}


def find_weights(name: str, params: OpenClipBackboneParams, weights_folder: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint file of a backbone, fetched where it has to be, and where it came from.

    Raises:
        InputError: no local file, or the hub can't be reached; says which file to put where.
    """
    local = [weights_folder / f"{name}{suffix}" for suffix in LOCAL_SUFFIXES]
    if params.pretrained == "file":
        present = [path for path in local if path.is_file()]
        if not present:
            raise InputError(f"{local[0].as_posix()}: no such file; put the weights of {params.architecture} there")
        return present[0], {"file": present[0].name, "sha256": file_digest(present[0])}
    tag = get_pretrained_cfg(params.architecture, params.pretrained)
    wanted = tag.get("hf_hub") or tag["url"]
    wanted += _HUB_NAMES[0] if wanted.endswith("/") else ""
    try_hub()
    try:
        if tag.get("hf_hub"):
            repository, _, filename = tag["hf_hub"].rpartition("/")
            path = _from_hub(repository, (filename,) if filename else _HUB_NAMES, params.revision)
            source = {"repository": repository, "revision": path.parent.name, "file": path.name}
        else:
            path = Path(download_pretrained_from_url(tag["url"]))
            source = {"file": path.name}
    except OSError as error:
        raise InputError(
            f"backbone {name}: can't fetch {wanted} ({_first_line(error)}); on a "
            f"machine with a network download it, put it at {local[0].as_posix()} (or .pt, .bin) and "
            + how_to_set(f"backbones.{name}", "pretrained", "file")
        ) from None
    return path, source | {"sha256": file_digest(path)}


def _from_hub(repository: str, filenames: tuple[str, ...], revision: str) -> Path:
    for filename in filenames[:-1]:
        try:
            return Path(hf_hub_download(repository, filename, revision=revision))
        except RemoteEntryNotFoundError:  # the repository was reached, and has the next one
            continue
    return Path(hf_hub_download(repository, filenames[-1], revision=revision))


def find_tokenizer(name: str, params: OpenClipBackboneParams, weights_folder: Path) -> Any:
    """The tokenizer of a backbone; one that open_clip does not bring itself comes from a local folder or the hub.

    Raises:
        InputError: the hub can't be reached, or does not have it; says which files to put where.
    """
    architecture, local = params.architecture, weights_folder / name
    text = open_clip_config(params)["model_cfg"]["text_cfg"]
    repository = text.get("hf_tokenizer_name")
    if not repository:
        return open_clip.get_tokenizer(architecture)
    if not local.is_dir():
        try_hub()
    try:
        return open_clip.tokenizer.HFTokenizer(
            str(local) if local.is_dir() else repository,
            context_length=text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
            tokenizer_mode=text.get("tokenizer_mode"),
            **text.get("tokenizer_kwargs", {}),
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"backbone {name}: no tokenizer {repository} ({_first_line(error)}); on a machine with a network download "
            f"its tokenizer.json and tokenizer_config.json, and put them in {local.as_posix()}"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def pretrained_model(
    name: str, params: OpenClipBackboneParams, weights_folder: Path
) -> tuple[torch.nn.Module, dict[str, Any], dict[str, Any]]:
    """An open_clip model with its weights, its configuration and its source.

    Raises:
        InputError: see `open_clip_config` and `find_weights`, or the file does not fit the architecture.
    """
    config = open_clip_config(params)
    source: dict[str, Any] = {"architecture": params.architecture, "pretrained": params.pretrained}
    checkpoint = None
    if params.pretrained == "random":
        source["seed"] = params.seed
    else:
        checkpoint, origin = find_weights(name, params, weights_folder)
        source |= origin
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        model_cfg = json.loads(json.dumps(config["model_cfg"]))
        quick_gelu = model_cfg.pop("quick_gelu", False)
        if model_cfg["text_cfg"].get("hf_model_name"):
            try_hub()
        try:
            model = open_clip.create_model(
                params.architecture, force_quick_gelu=quick_gelu, pretrained_image=False, pretrained_text=False
            )
        except OSError as error:
            raise InputError(
                f"backbone {name}: the text tower of {params.architecture} is described on the hub alone "
                f"({_first_line(error)}); fetch {model_cfg['text_cfg'].get('hf_model_name')} once with a network, or "
                + how_to_set(f"backbones.{name}", "architecture", "another")
            ) from None
    if checkpoint is not None:
        try:
            open_clip.load_checkpoint(model, str(checkpoint), strict=True)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # a file that is none makes torch, safetensors and open_clip raise a dozen kinds
            raise InputError(
                f"{checkpoint}: does not fit {params.architecture} ({_first_line(error)}); check both"
            ) from None
    return model, config, source
