"""Published X-CLIP checkpoints: from the hub, or from a folder that was put in place by hand."""

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RemoteEntryNotFoundError

from stillmotion.backbones.hub import try_hub
from stillmotion.backbones.xclip_backbone import CONFIG, PROCESSOR, WEIGHTS, XClipBackbone
from stillmotion.backbones.xclip_folder import OLD_WEIGHTS, TOKENIZER_FILES, read_xclip, weights_file
from stillmotion.config.models import XClipBackboneParams
from stillmotion.config.places import how_to_set
from stillmotion.errors import InputError
from stillmotion.io.memo import file_digest


def _from_hub(params: XClipBackboneParams) -> Path:
    """Fetch the files of a checkpoint; the folder that huggingface_hub keeps them in is named after the commit."""

    def fetch(filename: str) -> Path:
        return Path(hf_hub_download(params.checkpoint, filename, revision=params.revision))

    folder = fetch(CONFIG).parent
    fetch(PROCESSOR)
    for filename in TOKENIZER_FILES:
        try:
            fetch(filename)
        except EntryNotFoundError:  # not every checkpoint has all of them, and read_xclip says what it lacks
            continue
    try:
        fetch(WEIGHTS)
    except RemoteEntryNotFoundError:  # the repository was reached, and has the older kind
        fetch(OLD_WEIGHTS)
    return folder


def pretrained_xclip(
    name: str, params: XClipBackboneParams, weights_folder: Path
) -> tuple[XClipBackbone, dict[str, Any]]:
    """A published X-CLIP and where it came from.

    Args:
        name: of the backbone; `<weights_folder>/<name>` is the folder of one put there by hand.
        params: which checkpoint.
        weights_folder: of local weights.

    Raises:
        InputError: the hub can't be reached, which says the folder to fill, or the files do not fit one another.
    """
    local = weights_folder / name
    source: dict[str, Any] = {"checkpoint": params.checkpoint}
    if params.checkpoint == "folder":
        folder = local
    else:
        try_hub()
        try:
            folder = _from_hub(params)
        except (OSError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"backbone {name}: can't fetch {params.checkpoint} at {params.revision} ({reason}); on a machine with "
                f"a network download its files, put them in {local.as_posix()} and "
                + how_to_set(f"backbones.{name}", "checkpoint", "folder")
            ) from None
        source["revision"] = folder.name
    backbone = read_xclip(folder, max_tokens=params.max_tokens)
    weights = weights_file(folder)
    return backbone, source | {"file": weights.name, "sha256": file_digest(weights)}
