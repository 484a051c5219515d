"""The stage as a command, in a folder of its own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml

from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption, Moment, Video, save_records
from stillmotion.io.tables import write_rows
from stillmotion.video.packed import frame_file

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = (
    "system,dataset,split,metric,value,source\n"
    "X-CLIP Base/32 (all params),-,-,params_M,196.59,Embeddings thesis (Lindgren 2023) Table 3.1\n"
)
QUERIES = 20
SELECTED = "small_clip-vc1_none"


class Workplace:
    """A repository root with the params of the repository, and files by hand in place of what the stages leave."""

    def __init__(self, root: Path):
        self.root = root
        yaml = ruamel.yaml.YAML()
        params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        models = ["small_clip", "small_clip-half_patches"]
        params["run"] |= {"backbones": ["small_clip"], "embedded": ["small_clip"], "finetuned": ["small_clip"]}
        params["run"] |= {"expanded": [], "expansions": [], "recipes": ["half_patches"], "models": models}
        params["run"] |= {
            "aggregators": ["mean"],
            "conditional": [],
            "aligned": [],
            "alignments": [],
            "tight": [],
            "attended": [],
        }
        params["run"] |= {"architectures": []}
        params["run"] |= {
            "probed": models,
            "assessed": models,
            "selected": models[:1],
            "selections": ["vc1_none"],
            "references": ["oracle"],
        }
        params["run"] |= {"shot_detectors": [], "submissions": []}
        with (root / "params.yaml").open("w", encoding="utf-8") as out:
            yaml.dump(params, out)
        save_records(root / "raw", Moment, [])
        videos = [Video(f"v{row}", f"v{row}.mp4", "test", 4.0, 8.0, 32, 64, 64, "h264", "ok") for row in range(QUERIES)]
        save_records(root / "frames", Video, videos)
        self.write("published.csv", PUBLISHED)
        for model in models:
            self.write(f"metrics/actions/{model}.json", {"zero_shot": {}, "top1": {}, "protocol": {}})
            self.write(f"predictions/actions/{model}/spans.jsonl", "")
            flops = 67 if "-" in model else 100
            cost = {"parameters": 5, "trainable_parameters": 5, "forward_flops": flops, "backward_flops": 2 * flops}
            self.write(f"metrics/resources/{model}.json", cost)
            nothing = {"IoU": {}, "mean_IoU": None, "ci95": {}, "protocol": {}}
            self.write(f"metrics/assessment/{model}.json", nothing)
            protocol = {"num_queries": 0, "missing_queries": 0, "missing_videos": 0, "clip_frames": 8}
            empty = {"t2v": {}, "v2t": {}, "by_num_clips": {}, "protocol": protocol}
            self.write(f"metrics/retrieval/{model}-mean.json", empty)
            self.write(f"predictions/retrieval/{model}-mean/ranks.jsonl", "")
        for system in (SELECTED, "oracle"):
            self.write(f"metrics/moments/{system}.json", {"protocol": {"thresholds": None}})
            self.write(f"predictions/moments/{system}/queries.jsonl", "")
        for name in ("trials", "sensitivity"):
            self.write(f"predictions/moments/{SELECTED}/{name}.jsonl", "")
        self.add_embeddings()
        self.write("plots/finetune/small_clip-half_patches.json", [{"epoch": 0, "loss": 1.0, "score": 30.0}])
        (root / "ablations").mkdir()

    def add_embeddings(self):
        """Frames and captions in two dimensions: one frame of the last video fits its caption, all of the others do."""
        save_records(
            self.root / "raw", Caption, [Caption(f"c{v:02}", f"v{v}", "x", None, None) for v in range(QUERIES)]
        )
        folder, angles = self.root / "toy-small_clip", np.arange(QUERIES) * 2 * np.pi / QUERIES
        captions_QD = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        frames_QFD = np.repeat(captions_QD[:, None], 4, axis=1)
        frames_QFD[-1, 1:] *= -1
        rows = [EmbeddedVideo(f"v{v}", "test", 4.0, 4 * v, 4, [0, 1, 2, 3], [0]).row() for v in range(QUERIES)]
        write_rows(folder / "index.jsonl", rows)
        save_array(folder / "frames.npy", frames_QFD.reshape(-1, 2))
        save_array(folder / "captions.npy", captions_QD)
        self.write("toy-small_clip/model.json", {"clip_counts": [1]})

    def write(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")

    def add_retrieval(self, system, first, second):
        """Give every query these ranks with one clip and with two."""
        ranks = {"rank": [second], "rank_by_num_clips": {"1": [first], "2": [second]}}
        asked = {"video_id": "a", "text": "a red circle", "hardest_negatives": ["b"]}
        rows = [{"caption_id": f"c{query:02}"} | asked | ranks for query in range(QUERIES)]
        self.write(f"predictions/retrieval/{system}/ranks.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        by_num_clips = {}
        for clips, rank in (("1", first), ("2", second)):
            recall = 100.0 * (rank <= 1)
            values = {name: recall for name in ("R@1", "R@2", "R@5", "R@10", "MRR")} | {"MedR": rank}
            values["ci95"] = {"R@1": [recall, recall]}
            by_num_clips[clips] = {"t2v": values, "v2t": values}
        protocol = {"num_queries": QUERIES, "missing_queries": 0, "missing_videos": 0, "clip_frames": 8}
        found = by_num_clips["2"] | {"by_num_clips": by_num_clips, "protocol": protocol}
        self.write(f"metrics/retrieval/{system}.json", found)

    def write_rows(self, name, rows):
        self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def add_moments(self, metrics, queries, examples=None):
        """A selection and a reference that answered alike, and the frames of the videos."""
        self.write(f"metrics/moments/{SELECTED}.json", metrics("selection"))
        self.write("metrics/moments/oracle.json", metrics("reference"))
        for system in (SELECTED, "oracle"):
            self.write_rows(f"predictions/moments/{system}/queries.jsonl", queries)
        self.write_rows(
            f"predictions/moments/{SELECTED}/trials.jsonl", [{"number": 0, "value": 55.27, "threshold": 0.6}]
        )
        points = [{"parameter": "threshold", "at": at, "value": 50.0} for at in (0.0, 1.0)]
        self.write_rows(f"predictions/moments/{SELECTED}/sensitivity.jsonl", points)
        if examples is not None:
            self.write_rows(f"predictions/moments/{SELECTED}/examples.jsonl", examples)
        rows = []
        for video in range(QUERIES):
            video_id = f"v{video}"
            save_array(self.root / "frames" / frame_file(video_id), np.full((2, 8, 8, 3), 10 * video, dtype=np.uint8))
            row = {"video_id": video_id, "file": frame_file(video_id), "timestamps": [1.0, 3.0]}
            rows.append(row | {"uniform": [0], "clips": [0, 1]})
        self.write_rows("frames/frames.jsonl", rows)

    def run(self, output="out"):
        options = ("raw", "frames", "metrics", "plots", "predictions", "ablations")
        words = [word for name in options for word in (f"--{name}", name)]
        words += ["--embeddings", "toy-small_clip", "--published", "published.csv", "--output", output]
        command = [sys.executable, str(ROOT / "src" / "report.py"), *words]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, timeout=120, check=False)

    def files(self, output="out"):
        folder = self.root / output
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def workplace(tmp_path):
    return Workplace(tmp_path)


def test_a_dataset_with_nothing_to_score_and_no_ablations_still_has_its_pages(workplace):
    done = workplace.run()
    assert done.returncode == 0, done.stderr
    files = workplace.files()
    assert set(files) == {"results.md", "published.md", "figures/finetune.svg"}
    page = files["results.md"].decode()
    assert page.count("The dataset has no ") == 3
    assert page.count("| not measured here |") >= 10
    assert "small_clip: saved at keep rate 0.5 | 33.0 % (counted) | does not hold |" in page
    assert "1 published numbers, from data/published_results.csv. Beside 0" in files["published.md"].decode()


def test_a_run_of_retrieval_alone_says_what_it_left_out(workplace):
    yaml = ruamel.yaml.YAML()
    params = yaml.load((workplace.root / "params.yaml").read_text(encoding="utf-8"))
    params["run"] |= {"probed": [], "assessed": [], "selected": [], "references": []}
    with (workplace.root / "params.yaml").open("w", encoding="utf-8") as out:
        yaml.dump(params, out)
    workplace.add_retrieval("small_clip-mean", 2.0, 1.0)
    done = workplace.run()
    assert done.returncode == 0, done.stderr
    page = workplace.files()["results.md"].decode()
    assert "params.run names no model that is probed." in page
    assert "params.run names no system of moment retrieval." in page
    assert "The dataset has no actions" not in page


def test_results_and_ablations_become_figures_and_claims_with_the_same_bytes_each_time(workplace):
    workplace.add_retrieval("small_clip-mean", 2.0, 1.0)
    workplace.add_retrieval("small_clip-half_patches-mean", 1.0, 1.0)
    for name, dataset, values in (("batch_size", "toy", (8, 64)), ("patch_keep_rate", "another", (0.5, 1.0))):
        points = [
            {"value": value, "runs": [{"seed": 0, "validation_R@1": 1.0, "test_hits": [hit] * QUERIES}]}
            for value, hit in zip(values, (0.0, 100.0), strict=True)
        ]
        ablation = {"name": name, "title": f"Values of {name}", "dataset": dataset, "points": points}
        workplace.write(f"ablations/{name}.json", ablation)
    for output in ("out", "again"):
        done = workplace.run(output)
        assert done.returncode == 0, done.stderr
    assert workplace.files() == workplace.files("again")
    assert {"figures/retrieval.svg", "figures/clips.svg"} <= set(workplace.files())
    page = workplace.files()["results.md"].decode()
    assert "| small_clip-mean: 2 clips − 1 clip | +100.0 points (+100.0 to +100.0) | holds |" in page
    assert "| small_clip-half_patches-mean (1 clip) − small_clip-mean (1 clip) | +100.0 points" in page
    assert "| batches of 64 − batches of 8 | +100.0 points (+100.0 to +100.0) | holds |" in page
    assert "- [Values of batch_size](../ablations/batch_size.md)" in page
    # of another dataset: its page is linked, but it measures no claim on this one
    assert "- [Values of patch_keep_rate](../ablations/patch_keep_rate.md)" in page
    assert "keep rate 0.5 − 1" not in page
    assert "### Partial misalignment" in page
    assert "by the cosines of small_clip:" in page
    assert "| share of the queries (number) | 95.0 % (19) | 0.0 % (0) | 5.0 % (1) |" in page
    assert "| small_clip-mean | 100.0 (100.0 to 100.0) | – | 100.0 (100.0 to 100.0) |" in page
    assert "What is attended" not in page


def example(qid, place):
    return {
        "qid": qid,
        "query": f"q{qid}",
        "vid": f"v{qid}",
        "duration": 4.0,
        "place": place,
        "top1_iou": 0.5,
        "clip_length_s": 2.0,
        "sc": [0.1, 0.2],
        "processed": [0.1, 0.2],
        "cfsc": [0.9],
        "cuts": [],
        "threshold": 0.15,
        "true_windows": [[2.0, 4.0]],
        "predicted_windows": [[2.0, 4.0, 0.2]],
        "stored_frames": [0, 1],
    }


MOMENT_FIGURES = {"iou_distribution", "moment_lengths", "optimisation", "sensitivity"}


def test_moments_become_tables_figures_and_examples_with_the_same_bytes_each_time(workplace, make_moments, make_query):
    queries = [make_query(qid, qid / QUERIES) for qid in range(QUERIES)]
    examples = [example(9, "best"), example(5, "6 of 20"), example(4, "median"), example(3, "9 of 20")]
    workplace.add_moments(make_moments, queries, [*examples, example(1, "worst")])
    for output in ("out", "again"):
        done = workplace.run(output)
        assert done.returncode == 0, done.stderr
    files = workplace.files()
    assert files == workplace.files("again")
    figures = {f"figures/{name}.svg" for name in (*MOMENT_FIGURES, "moments", "finetune")}
    assert set(files) == {"results.md", "published.md", *figures}
    # of five examples the three that report.num_examples asks for, a picture each
    assert files["figures/moments.svg"].count(b"data:image/png;base64,") == 3
    page = files["results.md"].decode()
    assert f"| {SELECTED} | 53.9 (50.0 to 58.0) |" in page
    assert "| oracle | 53.9 (50.0 to 58.0) |" in page
    assert f"Queries from the best to the worst of {SELECTED}:" in page
    assert "### Assessment of models" not in page


def test_without_examples_nothing_is_drawn_of_them(workplace, make_moments, make_query):
    workplace.add_moments(make_moments, [make_query(qid, 0.5) for qid in range(QUERIES)])
    done = workplace.run()
    assert done.returncode == 0, done.stderr
    assert {Path(name).stem for name in workplace.files()} >= MOMENT_FIGURES
    assert "figures/moments.svg" not in workplace.files()
    assert "### Examples" not in workplace.files()["results.md"].decode()


def test_what_a_model_attends_to_is_drawn_and_has_a_section(workplace, make_moments, make_query):
    workplace.add_moments(make_moments, [make_query(qid, 0.5) for qid in range(QUERIES)])
    path = workplace.root / "params.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("attended: []", "attended: [small_clip-half_patches]"), encoding="utf-8")
    row = {"video_id": "v3", "text": "a ball", "tokens": ["<start_of_text>", "<end_of_text>"], "stored_frames": [0, 1]}
    row |= {"text_to_frame": [0.5, 0.5], "video_to_token": [0.5, 0.5], "cosines": [[0.1, 0.2], [0.3, 0.4]]}
    workplace.write_rows("predictions/attention/small_clip-half_patches/examples.jsonl", [row])
    done = workplace.run()
    assert done.returncode == 0, done.stderr
    figure = workplace.files()["figures/attention-small_clip-half_patches.svg"]
    assert figure.count(b"data:image/png;base64,") == 2
    page = workplace.files()["results.md"].decode()
    assert "## What is attended" in page
    assert "![attention-small_clip-half_patches](figures/attention-small_clip-half_patches.svg)" in page


def test_embeddings_of_another_dataset_are_one_line(workplace):
    save_array(workplace.root / "toy-small_clip" / "captions.npy", np.zeros((3, 2), np.float32))
    done = workplace.run()
    assert done.returncode == 2
    assert done.stderr == (
        "report: error: toy-small_clip: it has 3 captions and raw/captions.jsonl 20; these embeddings are of another "
        "dataset: run the embed stage again\n"
    )


def test_what_is_missing_is_one_line_and_leaves_no_page(workplace):
    (workplace.root / "published.csv").unlink()
    done = workplace.run()
    assert done.returncode == 2
    assert done.stderr == "report: error: published.csv: no such file; restore it with git checkout\n"
    assert not (workplace.root / "out").exists()
