"""Uploads an export to the Hugging Face hub: its weights by xet where hf_xet is installed, by LFS where it is not."""

import re
import sys
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import disable_progress_bars, logging, validate_repo_id

from stillmotion.backbones.hub import silence
from stillmotion.errors import InputError
from stillmotion.export.layout import SETTINGS

STALE = ("*.json", "*.safetensors")
"""Files of an export of before, another family's or an aggregator's, which would be opened with the new ones."""
_MENDS = {
    400: "see what the hub has against it",
    401: "log in (hf auth login, or HF_TOKEN)",
    403: "take a token that may write there (HF_TOKEN, made in the hub's settings), or another ORG",
    404: "check that ORG is there, and that you may see it",
    429: "wait a while, and try again",
}


def require_repository(repository: str) -> None:
    """Raise InputError where it is not ORG/NAME."""
    try:
        validate_repo_id(repository)
        if "/" in repository:
            return
    except HFValidationError:
        pass
    raise InputError(f"--push {repository}: not ORG/NAME; name the account and the repository")


def push(folder: Path, repository: str) -> str:
    """Upload a folder; the address of its repository.

    Raises:
        InputError: the repository holds a model that is no export of before, or the hub does not answer or refuses;
            says why, without a token, and the mend.
    """
    if reason := silence():
        raise _refused(repository, folder, f"{constants.ENDPOINT} does not answer ({reason})", 0)
    logging.set_verbosity_error()  # its warnings of each try again hold addresses that are signed for whoever has them
    if not sys.stderr.isatty():
        disable_progress_bars()
    hub = HfApi()
    try:
        made = hub.create_repo(repository, exist_ok=True)
        held = hub.list_repo_files(repository)
        stale = [file for file in held if any(fnmatch(file, pattern) for pattern in STALE)]
        if stale and SETTINGS not in held:
            raise InputError(
                f"--push {repository}: holds {stale[0]} and is no export of before, and an export takes the place of "
                f"what is there; {folder} is written: name another repository, or remove that file there"
            )
        said = "Export from Stillmotion"
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message=said, delete_patterns=list(STALE))
    except InputError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:  # of huggingface_hub, httpx or hf_xet, or wrapped
        cause: BaseException = error
        while not (status := getattr(getattr(cause, "response", None), "status_code", 0)) and cause.__cause__:
            cause = cause.__cause__
        told = getattr(cause, "server_message", None) or str(cause) or type(cause).__name__
        first = told.strip().splitlines()[0]
        raise _refused(repository, folder, f"{status} {first}" if status else first, status) from None
    return str(made)


def _refused(repository: str, folder: Path, reason: str, status: int) -> InputError:
    reason = re.sub(r"Bearer .*", "Bearer …", reason.replace(get_token() or "\0", "…"))
    mend = _MENDS.get(status, "try again when it answers: what arrived is not sent again")
    return InputError(f"--push {repository}: {reason:.200}; {folder} is written: {mend}")
