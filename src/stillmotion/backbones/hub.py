"""Whether the Hugging Face hub can be reached: its client, and all that uses it, asks again for a minute and more."""

import logging

from huggingface_hub import constants
from huggingface_hub.utils import get_session

TIMEOUT_S = 4.0


def silence() -> str | None:
    """Ask the hub once; the reason where it does not answer, None where it does."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE"
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S)
    except Exception as error:  # of the client's HTTP library, which huggingface_hub has changed before
        return f"{type(error).__name__} {error}"
    return None


def try_hub() -> None:
    """Ask the hub once, and where it does not answer go on as with HF_HUB_OFFLINE=1: with what was fetched before."""
    if not constants.HF_HUB_OFFLINE and (reason := silence()):
        logging.getLogger("stillmotion").warning(
            "%s does not answer (%s): going on with what was fetched before", constants.ENDPOINT, reason
        )
        constants.HF_HUB_OFFLINE = True
