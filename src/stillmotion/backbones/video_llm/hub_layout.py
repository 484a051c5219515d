"""Models and processors of transformers from a folder in the hub's layout, with one line of what is wrong in it."""

from pathlib import Path
from typing import Any

import torch

from stillmotion.errors import InputError


def _first_line(error: Exception) -> str:
    return f"{(str(error).strip().splitlines() or [type(error).__name__])[0]:.160}"


def read_processor(processor_class: Any, folder: Path) -> Any:
    """The processor of a folder.

    Raises:
        InputError: a file of it is missing.
    """
    try:
        return processor_class.from_pretrained(folder, local_files_only=True)
    except (OSError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise InputError(
            f"{folder}: no processor of a {processor_class.__name__} ({_first_line(error)}); add its "
            "preprocessor_config.json, video_preprocessor_config.json, processor_config.json and tokenizer files"
        ) from None


def initial_model(model_class: Any, folder: Path, seed: int) -> Any:
    """The model of a folder's configuration, with weights of a seed."""
    config = model_class.config_class.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config)


def read_model(model_class: Any, folder: Path, precision: str, device: torch.device) -> Any:
    """The model of a folder; on several GPUs it is spread over them.

    Raises:
        InputError: its files lack tensors, or are none of such a model.
    """
    on_gpu = device.type == "cuda"
    dtype = torch.bfloat16 if on_gpu and precision == "bf16" else torch.float32
    spread = {"device_map": "auto"} if on_gpu and torch.cuda.device_count() > 1 else {}
    try:
        model, report = model_class.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True, **spread
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{folder}: no weights of a {model_class.__name__} ({_first_line(error)}); take config.json and the "
            "safetensors from one checkpoint"
        ) from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"{folder}: its safetensors lack {len(missing)} tensors of the model of config.json, {missing[0]!r} first; "
            "take both from one checkpoint, whole"
        )
    return model
