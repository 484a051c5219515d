"""Tensors on disk as safetensors: no pickle, and the same bytes for the same tensors.

Safetensors with two or more metadata keys are not byte-stable, so there is one key at most.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_file


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any] | None = None) -> None:
    """Write tensors by name, atomically, with `state` (anything that JSON holds) beside them."""
    plain = {name: tensors[name].detach().cpu().clone().contiguous() for name in sorted(tensors)}
    metadata = None if state is None else {"state": json.dumps(state, sort_keys=True)}
    with atomic_file(path) as partial:
        try:
            safetensors.torch.save_file(plain, partial, metadata=metadata)
        except safetensors.SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))  # so far it is the only word of what the machine refused
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


def load_tensors(path: Path, *, may_be_none: bool = False) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: tensors by name, and the state (empty where there was none).

    Raises:
        InputError: there is no such file, or it is damaged, or holds no tensors where it must.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state: dict[str, Any] = json.loads(metadata.get("state", "{}"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not safetensors ({error}); remove it and run the stage again") from None
    if not (tensors or may_be_none):
        raise InputError(f"{path}: holds no tensors; remove it and run the stage again")
    return tensors, state


def load_into(module: torch.nn.Module, path: Path, *, strict: bool = True) -> None:
    """Give a module the tensors of a file.

    Raises:
        InputError: as `load_tensors`, or they are those of another module.
    """
    tensors, _ = load_tensors(path)
    try:
        module.load_state_dict(tensors, strict=strict)
    except RuntimeError as error:
        reason = " ".join(str(error).partition("\n")[2].split())
        raise InputError(f"{path}: of another module ({reason}); remove it and run the stage again") from None
