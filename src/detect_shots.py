"""Stage detect_shots: find the shots of the test videos with PySceneDetect.

    python src/detect_shots.py --detector content_shots --raw data/raw/toy/tables --frames data/frames/toy \
        --output data/shots/toy-content_shots

Reads the video files that videos.jsonl of the raw dataset names, relative to the root of the repository, of the test
videos that the stored frames have. Writes shots.jsonl, a row a video: video_id, its shots [[start, end], …] in
seconds, which cover it without gaps, and `reason`: null, or why a video could not be read, which then is one shot; and
detector.json, how they were found.
"""

import stillmotion.config.capped

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.memo import open_memo
from stillmotion.io.records import Video, load_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.moments import shot_detection
from stillmotion.moments.shot_detection import DetectionTask, DetectorSettings, find_cuts, shots_between
from stillmotion.provenance import code_version
from stillmotion.stage import Progress, run_stage
from stillmotion.video.probe import VideoError
from stillmotion.video.unchanged import stated_digests
from stillmotion.video.workers import run_in_workers

_log = logging.getLogger("stillmotion")


def main(
    detector: Annotated[str, typer.Option(help="key of `shot_detectors` in params.yaml")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    frames: Annotated[Path, typer.Option(help="frames store of the dataset")],
    output: Annotated[Path, typer.Option(help="folder for the shots")],
) -> None:
    """Cut the test videos into shots."""
    params = load_params()
    chosen = params.shot_detectors[detector]
    environment = read_environment()
    settings = DetectorSettings(chosen.detector, chosen.threshold, chosen.min_shot_s)
    memo, code = open_memo(environment.memo), code_version(shot_detection.__file__)
    paths = {video.video_id: Path(video.path) for video in load_records(raw, Video)}
    durations = {
        video.video_id: float(video.duration or 0.0)
        for video in load_records(frames, Video)
        if video.ok and video.split == "test"
    }
    stated = stated_digests(raw)
    tasks = [
        DetectionTask(video_id, paths[video_id], settings, memo, code, stated.get(video_id)) for video_id in durations
    ]
    rows: list[dict[str, Any]] = []
    num_shots = num_lost = 0
    with Progress("detecting shots", len(tasks)) as progress:
        outcomes = run_in_workers(find_cuts, tasks, workers=environment.workers, timeout_s=environment.video_timeout_s)
        for task, outcome in outcomes:
            cuts, reason = ([], outcome.reason) if isinstance(outcome, VideoError) else (outcome, None)
            shots = shots_between(cuts, durations[task.video_id])
            num_shots += len(shots)
            if reason is not None:
                num_lost += 1
                _log.warning("%s: %s; it counts as one shot", task.path, reason)
            rows.append({"video_id": task.video_id, "shots": shots, "reason": reason})
            progress.advance()
    rows.sort(key=lambda row: row["video_id"])
    with atomic_folder(output) as partial:
        write_rows(partial / "shots.jsonl", rows, digits=6)
        made_with = {"scenedetect": version("scenedetect-headless"), "backend": "pyav"}
        write_json(partial / "detector.json", chosen.model_dump() | made_with)
    _log.info("%d shots in %d videos, of which %d could not be read", num_shots, len(rows), num_lost)


if __name__ == "__main__":
    run_stage(main)
