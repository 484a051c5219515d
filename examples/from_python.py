# Stillmotion from Python, cell by cell (VS Code, Jupyter with jupytext, or `python examples/from_python.py`).
# It runs on what `make repro` has built; set MODEL and FOLDER to your own for your own.

# %% A model and some videos. Import stillmotion before numpy: it holds numpy and torch to the same instructions.
from stillmotion.api import open_model, score_moments, score_retrieval  # isort: skip

import json
from pathlib import Path

MODEL = "models/backbones/small_clip"
FOLDER = Path("data/raw/toy/videos")
TABLES = Path("data/raw/toy/tables")
NUM_VIDEOS = 20

model = open_model(MODEL)
videos = model.embed_videos(sorted(FOLDER.glob("test-*.mp4"))[:NUM_VIDEOS])
print(f"{len(videos.ids)} videos of {model.dim} numbers each, {len(videos.skipped)} skipped")

# %% The videos for a text, and the moments within.
text = "a large red circle moves left on a gray background"
for path, cosine in model.rank([text], videos, top=3)[0]:
    print(f"{cosine:6.3f}  {path}")
for moment in model.find_moments(text, videos, top=3):
    print(f"{moment.score:6.3f}  {moment.video_id}  {moment.start:.1f} to {moment.end:.1f} s")

# %% How well texts find their videos: one caption of the whole video for each.
place = {Path(path).stem: number for number, path in enumerate(videos.ids)}
rows = [json.loads(line) for line in (TABLES / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
whole = [row for row in rows if row["start"] is None and row["video_id"] in place]
scores = model.embed_texts([row["text"] for row in whole]) @ videos.vectors.T
found = score_retrieval(scores, [(number, place[row["video_id"]]) for number, row in enumerate(whole)])
low, high = found["t2v"]["ci95"]["R@1"]
print(f"R@1 {found['t2v']['R@1']:.1f} ({low:.1f} to {high:.1f}) among {len(videos.ids)} videos")

# %% How well moments are found: for each query, those of its own video.
rows = [json.loads(line) for line in (TABLES / "moments.jsonl").read_text(encoding="utf-8").splitlines()]
truth = [row for row in rows if row["vid"] in place]
predictions = []
for row in truth:
    moments = model.find_moments(row["query"], videos.only(videos.ids[place[row["vid"]]]))
    windows = [[moment.start, moment.end, moment.score] for moment in moments]
    predictions.append({"qid": row["qid"], "query": row["query"], "vid": row["vid"], "pred_relevant_windows": windows})
print(f"R1@0.5 {score_moments(predictions, truth)['brief']['MR-full-R1@0.5']:.1f} of {len(truth)} queries")
