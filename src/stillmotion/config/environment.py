"""Settings that change no result and so are no params: they come from the environment.

| variable | meaning | default |
|---|---|---|
| STILLMOTION_WORKERS | processes that decode videos or find their shots | the number of CPUs |
| STILLMOTION_DEVICE | `auto`, `cpu`, `cuda`, `cuda:1`, … | auto: a GPU where there is one |
| STILLMOTION_DEVICES | devices, or processes on the CPU, that share the batches of a fine-tuning | torchrun's, or 1 |
| STILLMOTION_MEMO | folder of finished work (see memo.py), or `off` | the user's cache folder |
| STILLMOTION_VIDEO_TIMEOUT | seconds that one video may take to decode, or its shots to be found | 600 |
| STILLMOTION_FETCHES | files that are fetched at once | 8 |
| STILLMOTION_FETCH_TIMEOUT | seconds for which a server may send next to nothing | 60 |
| STILLMOTION_CHECKPOINT_SECONDS | seconds between the checkpoints of a training; 0: after each step | 30 |
| STILLMOTION_LIVE | folder for the curves of trainings while they go on, by dvclive (the extra `live`) | none |
| STILLMOTION_INSTRUCTIONS | `avx2`, `compatible` or `native`; this one changes bytes (see processor.py) | avx2 |
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from stillmotion.errors import InputError


def _count(name: str, default: int, *, least: int = 1) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or int(text) < least:
        raise InputError(
            f"environment variable {name} is {text!r}; set it to a whole number of {least} or more, or unset it"
        )
    return int(text)


def _memo_folder() -> Path | None:
    chosen = os.environ.get("STILLMOTION_MEMO")  # an empty one is as good as none
    if chosen == "off":
        return None
    try:
        return (Path(chosen) if chosen else platformdirs.user_cache_path("stillmotion")).expanduser().resolve()
    except (RuntimeError, OSError) as error:  # `~` of nobody, or a link to itself
        if chosen:
            raise InputError(f"environment variable STILLMOTION_MEMO is {chosen!r}: {error}; set another") from None
    logging.getLogger("stillmotion").warning(
        "no home folder (HOME), and so no memo; set STILLMOTION_MEMO to a folder, or to off"
    )
    return None


@dataclass(frozen=True)
class Environment:
    """The settings of this process."""

    workers: int
    device: str
    devices: int
    memo: Path | None
    video_timeout_s: int
    fetches: int
    fetch_timeout_s: int
    checkpoint_s: int
    live: Path | None


def read_environment() -> Environment:
    """Read the settings; InputError names a variable that can't be used."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Environment(
        workers=_count("STILLMOTION_WORKERS", cpus),
        device=os.environ.get("STILLMOTION_DEVICE", "auto"),
        devices=_count("STILLMOTION_DEVICES", _count("LOCAL_WORLD_SIZE", 1)),
        memo=_memo_folder(),
        video_timeout_s=_count("STILLMOTION_VIDEO_TIMEOUT", 600),
        fetches=_count("STILLMOTION_FETCHES", 8),
        fetch_timeout_s=_count("STILLMOTION_FETCH_TIMEOUT", 60),
        checkpoint_s=_count("STILLMOTION_CHECKPOINT_SECONDS", 30, least=0),
        live=Path(live).absolute() if (live := os.environ.get("STILLMOTION_LIVE")) else None,
    )
