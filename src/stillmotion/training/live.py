"""The curves of a training while it goes on, by dvclive, for who watches it: no result depends on them."""

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from stillmotion.errors import InputError

Row = Mapping[str, float]
FOUND_BY_DVC = "metrics:\n- metrics.json\nplots:\n- plots/metrics:\n    x: step\n    x_label: epoch\n"
"""The dvc.yaml beside the curves. dvclive would write it anew each epoch, and to do so read the project's stages."""
_log = logging.getLogger("stillmotion")


def live_curves(folder: Path | None, label: str) -> Callable[[Row], None]:
    """What takes the row of each epoch, which has its number as `epoch` beside the values to draw.

    Args:
        folder: gets <stage>/<label>/ with dvclive's files, a dvc.yaml among them by which `dvc plots` finds the others;
            an earlier training's there are replaced. None for no curves.
        label: of the training, among those of its stage.

    Raises:
        InputError: dvclive is not installed.
    """
    if folder is None:
        return lambda row: None
    try:
        from dvclive import Live
    except ImportError:
        raise InputError("STILLMOTION_LIVE needs dvclive; pip install 'stillmotion[live]', or unset it") from None
    stage = os.environ.get("DVC_STAGE") or Path(sys.argv[0]).stem
    place = folder.joinpath(*(re.sub(r"[^\w.@-]+", "_", name).strip("_") for name in (stage, label)))
    live: Live | None = None

    def show(row: Row) -> None:
        nonlocal live
        try:
            if live is None:
                live = Live(str(place), save_dvc_exp=False, dvcyaml=False)
                (place / "dvc.yaml").write_text(FOUND_BY_DVC, encoding="utf-8")
            live.step = int(row["epoch"])
            for name in sorted(row.keys() - {"epoch"}):
                live.log_metric(name, row[name])
            live.next_step()
        except OSError as error:  # ends no training
            _log.warning("%s: %s; set STILLMOTION_LIVE to another folder, or unset it", place, error.strerror)

    return show
