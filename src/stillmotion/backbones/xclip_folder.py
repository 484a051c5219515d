"""Reads an X-CLIP from a folder in the hub's layout, and holds its files to one another."""

import pickle
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPTokenizer, XCLIPConfig, XCLIPModel
from transformers.initialization import no_init_weights

from stillmotion.backbones.xclip_backbone import CONFIG, PROCESSOR, SETTINGS, WEIGHTS, XClipBackbone
from stillmotion.backbones.xclip_processor import read_preprocessing
from stillmotion.errors import InputError
from stillmotion.io.tables import read_json
from stillmotion.io.weights import load_tensors

OLD_WEIGHTS = "pytorch_model.bin"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


def weights_file(folder: Path) -> Path:
    """The file of the weights: safetensors where there are both."""
    path = folder / WEIGHTS
    old = folder / OLD_WEIGHTS
    return old if old.is_file() and not path.is_file() else path


def read_config(folder: Path) -> Any:
    """The model's XCLIPConfig.

    Raises:
        InputError: no such file, or not of an X-CLIP whose parts fit one another.
    """
    path = folder / CONFIG
    settings = read_json(path)
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    if kind != "xclip":
        raise InputError(f"{path}: model_type is {kind!r}; this family takes an 'xclip'")
    try:
        config: Any = XCLIPConfig.from_dict(settings)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not an X-CLIP ({' '.join(str(error).split())}); mend that entry") from None
    width = config.vision_config.mit_hidden_size
    if width != config.projection_dim:
        raise InputError(
            f"{path}: vision_config.mit_hidden_size is {width} and projection_dim {config.projection_dim}; "
            "they must be equal"
        )
    return config


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    if path.name != OLD_WEIGHTS:
        return load_tensors(path)[0]
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not weights of torch ({reason}); fetch it again") from None


def load_weights(model: XCLIPModel, path: Path) -> None:
    """Put a file's tensors in the model, each in its place and none left over.

    Raises:
        InputError: a tensor is missing, has another shape, or is not the model's.
    """
    wanted = model.state_dict()
    # Files of older versions of transformers hold the numbers of the positions too.
    found = {name: value for name, value in _read_tensors(path).items() if not name.endswith(".position_ids")}
    for name in wanted.keys() & found.keys():
        if wanted[name].shape != found[name].shape:
            there, here = tuple(found[name].shape), tuple(wanted[name].shape)
            hint = ""
            if name == "mit.position_embedding":
                hint = f" (it was trained with {there[1]} frames and num_frames there is {here[1]})"
            raise InputError(
                f"{path}: {name} has shape {there} and {CONFIG} beside it asks for {here}{hint}; "
                "take both files from one checkpoint"
            )
    for missing, kind in ((wanted.keys() - found.keys(), "lacks"), (found.keys() - wanted.keys(), "has besides")):
        if missing:
            raise InputError(
                f"{path}: {kind} {len(missing)} tensors, {min(missing)!r} first; {CONFIG} beside it describes another "
                "model: take both files from one checkpoint"
            )
    model.load_state_dict(found)


def read_xclip(folder: Path, *, max_tokens: int) -> XClipBackbone:
    """Read a folder in the hub's layout, ready for inference.

    Args:
        folder: with config.json, model.safetensors (or pytorch_model.bin), preprocessor_config.json and
            tokenizer.json (or vocab.json and merges.txt).
        max_tokens: texts are cut to this many.

    Raises:
        InputError: a file is missing or does not fit the others; one line that names it.
    """
    weights = weights_file(folder)
    has_tokenizer = (folder / "tokenizer.json").is_file()
    for path in (folder / CONFIG, weights, folder / PROCESSOR, *([] if has_tokenizer else _old_tokenizer(folder))):
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; a folder of an X-CLIP holds {CONFIG}, {WEIGHTS}, {PROCESSOR} and "
                "tokenizer.json as on the hub: add it"
            )
    config = read_config(folder)
    with no_init_weights():
        model = XCLIPModel(config)
    load_weights(model, weights)
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    vocabulary = config.text_config.vocab_size
    if len(tokenizer) > vocabulary:
        raise InputError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens and the model of {CONFIG} {vocabulary}; "
            "take both from one checkpoint"
        )
    path = folder / PROCESSOR
    preprocessing = read_preprocessing(read_json(path), image_size_px=config.vision_config.image_size, path=path)
    return XClipBackbone(model, tokenizer, preprocessing, max_tokens=max_tokens).eval()


def _old_tokenizer(folder: Path) -> list[Path]:
    return [folder / "vocab.json", folder / "merges.txt"]


def load_xclip(folder: Path, device: torch.device) -> XClipBackbone:
    """Load a model folder that a stage wrote.

    Raises:
        InputError: see `read_xclip`.
    """
    return read_xclip(folder, max_tokens=read_json(folder / SETTINGS)["max_tokens"]).to(device)
