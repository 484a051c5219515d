"""Stage evaluate_moments: score the moments that a system finds in the test split with the official protocol.

    python src/evaluate_moments.py --scorer vc1_none --thresholds models/thresholds/small_clip-vc1_none \
        --embeddings data/embeddings/toy-small_clip --raw data/raw/toy/tables \
        --metrics metrics/moments/small_clip-vc1_none.json \
        --predictions data/predictions/moments/small_clip-vc1_none

Options say where the windows come from; `--scorer` is what the metrics file calls it:

| options | windows |
|---|---|
| --thresholds --embeddings | VC1 or VC2 with the thresholds of stage optimise_thresholds |
| --shots --embeddings | shots of stage detect_shots, ranked by their similarity with the query |
| --submission --frames | a file of another system: qid, query, vid, pred_relevant_windows, pred_saliency_scores |
| --frames | the reference that `--scorer` names, which looks at no frame: bounds for those that do |

Reads also the tables of the dataset. Writes the metrics and the tables of stillmotion/moments/writer.py, of a selection
beside those of its search, so that what the report shows of a system lies together. Without moments to test, or to
search thresholds on, the result is empty. `pessimistic` is what the headline values would be if every query about a
test video that could not be decoded were answered wrongly; `boundaries`, of VC2, is whether its cuts fall where true
moments begin and end; `annotators`, where several marked each moment, is the score of DiDeMo. A reference rates no
clips, so its metrics have no HL-*. A query without a row in a submission counts as an empty list and is named in
`protocol.missing_rows`.
"""

import stillmotion.config.capped

from pathlib import Path
from typing import Annotated

import typer

from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.errors import InputError
from stillmotion.io.records import Moment, Video, load_records
from stillmotion.io.tables import read_rows
from stillmotion.moments.predictions import NO_MODEL
from stillmotion.moments.queries import embedded_queries
from stillmotion.moments.references import reference_predictions
from stillmotion.moments.selected import selection_predictions
from stillmotion.moments.shots import read_shots, shot_predictions
from stillmotion.moments.stored import stored_truth
from stillmotion.moments.submitted import submitted_predictions
from stillmotion.moments.thresholds import read_thresholds
from stillmotion.moments.truth import missing_of_split
from stillmotion.moments.writer import score_and_write
from stillmotion.stage import run_stage
from stillmotion.video.packed import PackedFrames

SEARCH_TABLES = ("trials.jsonl", "sensitivity.jsonl")
COMBINATIONS = ({"thresholds", "embeddings"}, {"shots", "embeddings"}, {"submission", "frames"}, {"frames"})


def main(
    scorer: Annotated[str, typer.Option(help="key of `selections` or `shot_detectors`, a reference or a submission")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    metrics: Annotated[Path, typer.Option(help="JSON file of the metrics")],
    predictions: Annotated[Path, typer.Option(help="folder of the predictions")],
    thresholds: Annotated[Path | None, typer.Option(help="folder of the thresholds of a selection")] = None,
    shots: Annotated[Path | None, typer.Option(help="folder of the shots")] = None,
    submission: Annotated[Path | None, typer.Option(help="file of another system's submission")] = None,
    embeddings: Annotated[Path | None, typer.Option(help="embeddings of the dataset by one model")] = None,
    frames: Annotated[Path | None, typer.Option(help="frames store of the dataset")] = None,
) -> None:
    """Score moment retrieval on the test split."""
    paths = {
        "thresholds": thresholds,
        "shots": shots,
        "submission": submission,
        "embeddings": embeddings,
        "frames": frames,
    }
    if {name for name, path in paths.items() if path is not None} not in COMBINATIONS:
        known = "; ".join(" ".join(f"--{name}" for name in sorted(names, reverse=True)) for names in COMBINATIONS)
        raise InputError(f"these options don't say where the windows come from; give one of: {known}")
    params = load_params()
    clip_length_s = params.sample_frames.clip_length_s
    videos, moments = load_records(raw, Video), load_records(raw, Moment)
    if embeddings is not None:
        embedded = Embeddings(embeddings)
        queries = embedded_queries(embedded, moments, "test", clip_length_s)
        truth = None if queries is None else queries.truth
        model, kept = embedded.system, set(embedded.row_of)
    elif frames is not None:
        store = PackedFrames(frames)
        truth = stored_truth(store, moments, "test", clip_length_s)
        model, kept = dict(NO_MODEL), {video.video_id for video in store.videos}
    if thresholds is not None:
        stored_frames = {video.video_id: video.clips for video in embedded.videos}
        predicted = selection_predictions(queries, read_thresholds(thresholds / "thresholds.json"), stored_frames)
    elif shots is not None:
        predicted = shot_predictions(queries, *read_shots(shots), name=str(shots / "shots.jsonl"))
    elif submission is not None:
        if not submission.is_file():
            raise InputError(
                f"{submission}: no such file; put the submission there, in the format of QVHighlights, or take "
                f"{scorer} out of run.submissions in params.yaml"
            )
        rows, name = read_rows(submission), str(submission)
        predicted = submitted_predictions(rows, truth, moments=moments, videos=videos, name=name)
    else:
        predicted = reference_predictions(scorer, truth, params.evaluate_references)

    score_and_write(
        predicted,
        truth,
        missing_of_split(videos, moments, kept=kept, split="test"),
        system=model | {"scorer": scorer},
        told=embedded.told if embeddings is not None else {},
        clip_length_s=clip_length_s,
        params=params.evaluate_moments,
        metrics_path=metrics,
        folder=predictions,
        copied=[] if thresholds is None else [thresholds / name for name in SEARCH_TABLES],
    )


if __name__ == "__main__":
    run_stage(main)
