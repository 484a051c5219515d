"""Stage assess_backbone: how well a model's frames tell moments from the rest, over a range of thresholds.

    python src/assess_backbone.py --raw data/raw/toy/tables --embeddings data/embeddings/toy-small_clip \
        --metrics metrics/assessment/small_clip.json

Reads moments and embeddings of the split that params.yaml names. Writes the mean frame IoU of VC1 with `norm` at each
threshold; an empty result where the split has no moments.
"""

import stillmotion.config.capped

import logging
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.records import Moment, Video, load_records
from stillmotion.io.tables import write_json
from stillmotion.moments.assessment import METHOD, POST_PROCESSING, assess
from stillmotion.moments.queries import embedded_queries
from stillmotion.moments.truth import missing_of_split
from stillmotion.stage import run_stage

_log = logging.getLogger("stillmotion")

_BOOTSTRAP_SEED = 0
"""Of the interval alone."""


def main(
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    embeddings: Annotated[Path, typer.Option(help="embeddings of the dataset by one model")],
    metrics: Annotated[Path, typer.Option(help="JSON file of the metrics")],
) -> None:
    """Assess one model without a search."""
    params = load_params()
    settings, clip_length_s = params.assess_backbone, params.sample_frames.clip_length_s
    embedded, moments = Embeddings(embeddings), load_records(raw, Moment)
    split = embedded_queries(embedded, moments, settings.split, clip_length_s)
    missing = missing_of_split(load_records(raw, Video), moments, kept=embedded.row_of, split=settings.split)
    result = assess(split, settings.thresholds, rng=np.random.default_rng(_BOOTSTRAP_SEED))
    if split is None:
        _log.warning("the %s split has no moments: an empty result", settings.split)
    else:
        _log.info("mean frame IoU on %s: %.2f", settings.split, result["mean_IoU"])
    queries = [] if split is None else split.queries
    protocol = {
        "split": settings.split,
        "num_queries": len(queries),
        "num_videos": len({query.vid for query in queries}),
        "missing_videos": missing.num_videos,
        "missing_queries": missing.num_queries,
        "method": METHOD,
        "post_processing": POST_PROCESSING,
        "clip_length_s": clip_length_s,
    }
    system = embedded.system | {"scorer": None}
    write_json(metrics, result | {"protocol": protocol | embedded.told, "system": system}, digits=4)


if __name__ == "__main__":
    run_stage(main)
