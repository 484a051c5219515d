"""A folder of the report stage with files by hand in place of what the stages leave."""

import importlib.util
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption, Moment, Video, save_records
from stillmotion.io.tables import write_rows

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = {
    "published_results.csv": (
        "system,dataset,split,metric,value,source\n"
        "X-CLIP Base/32 (all params),-,-,params_M,196.59,Embeddings thesis (Lindgren 2023) Table 3.1\n"
    ),
    "third_party_results.csv": (
        "system,dataset,split,metric,value,source\n"
        'a/b,MSVD,"MTEB MSVDT2VRetrieval, test",t2v R@1,69.7,results (MTEB 2.14.2)\n'
    ),
    "published_sources.csv": (
        "source,document,part\n"
        "results (MTEB 2.14.2),MTEB (third parties),2.14.2\n"
        "Embeddings thesis (Lindgren 2023) Table 3.1,Embeddings thesis (Lindgren 2023),Table 3.1\n"
    ),
    "counterparts.csv": (
        "source,dataset,system,metric,task,base,recipe,scorer,objective,setting,clips,on,size,value,scale,decimals,"
        "experiment\n"
        "Embeddings thesis (Lindgren 2023) Table 3.1,-,X-CLIP Base/32 (all params),params_M,architectures,b32,,,,"
        "patch_keep_rate=1,,,,parameters,1e-6,6,resources\n"
    ),
}
QUERIES = 20
SELECTED, TUNED = "small_clip-vc1_none", "small_clip-patch_dropout"
FIELDS = ("model", "base", "expansion", "pretraining", "recipe", "seed", "scorer")


def params():
    models = ["small_clip", TUNED]
    run = {"embedded": models, "selected": models[:1], "selections": ["vc1_none"], "references": ["oracle"]}
    run |= {"probed": models, "assessed": models, "shot_detectors": [], "submissions": [], "architectures": []}
    settings = {"captions": "paragraph", "similarity": "cosine", "tau": 20.0, "patch_keep_rate": 0.5}
    return {
        "dataset": "toy",
        "run": run | {"attended": []},
        "finetuned": {TUNED: {"from": "small_clip", "recipe": "patch_dropout", "seed": 0}},
        "retrieval": {f"{model}-mean": {"model": model, "scorer": "mean"} for model in models},
        "recipes": {"patch_dropout": settings},
        "scorers": {"mean": {"kind": "mean"}},
        "selections": {"vc1_none": {"method": "vc1", "post_processing": "none", "objective": "R1@0.5"}},
        "expansions": {},
        "shot_detectors": {},
        "report": {"seed": 0, "bootstrap_samples": 200, "num_examples": 3},
    }


class Workplace:
    """Twenty videos of the test split, each with one caption, whose systems have no result until they are given one."""

    def __init__(self, root: Path):
        self.root = root
        self.params = params()
        save_records(root / "raw", Moment, [])
        videos = [Video(f"v{row}", f"v{row}.mp4", "test", 4.0, 8.0, 32, 64, 64, "h264", "ok") for row in range(QUERIES)]
        save_records(root / "frames", Video, videos)
        for name, text in PUBLISHED.items():
            self.write(f"published/{name}", text)
        for model in ("small_clip", TUNED):
            self.write_metrics("actions", model, {"zero_shot": {}, "top1": {}, "protocol": {}})
            self.write(f"predictions/actions/{model}/spans.jsonl", "")
            flops = 67 if model == TUNED else 100
            cost = {"parameters": 5, "trainable_parameters": 5, "forward_flops": flops, "backward_flops": 2 * flops}
            self.write_metrics("resources", model, cost)
            nothing = {"IoU": {}, "mean_IoU": None, "ci95": {}, "protocol": {}}
            self.write_metrics("assessment", model, nothing)
            protocol = {"num_queries": 0, "missing_queries": 0, "missing_videos": 0, "clip_frames": 8}
            empty = {"t2v": {}, "v2t": {}, "by_num_clips": {}, "protocol": protocol}
            self.write_metrics("retrieval", model, empty, scorer="mean")
            self.write(f"predictions/retrieval/{model}-mean/ranks.jsonl", "")
            self.write(f"plots/train_aggregator/{model}-mean.json", [])
        protocol = {"num_queries": 0, "missing_queries": 0, "missing_videos": 0, "thresholds": None}
        self.write_moments(lambda kind: {"protocol": protocol | {"kind": kind}}, [])
        for name in ("trials", "sensitivity"):
            self.write(f"predictions/moments/{SELECTED}/{name}.jsonl", "")
        self.add_embeddings()
        self.add_frames()
        self.write(f"plots/finetune/{TUNED}.json", [{"epoch": 0, "loss": 1.0, "score": 30.0}])
        (root / "studies").mkdir()

    def write_metrics(self, task, model, content, *, scorer=None):
        recipe, seed = ("patch_dropout", 0) if model == TUNED else (None, None)
        system = dict.fromkeys(FIELDS) | {"model": model, "base": "small_clip", "recipe": recipe, "seed": seed}
        key = f"{model}-{scorer}" if scorer else model
        self.write(f"metrics/{task}/{key}.json", content | {"system": system | {"scorer": scorer}})

    def write_moments(self, metrics, queries):
        """A selection and a reference that answered alike."""
        self.write_metrics("moments", "small_clip", metrics("selection"), scorer="vc1_none")
        reference = dict.fromkeys(FIELDS) | {"scorer": "oracle"}
        self.write("metrics/moments/oracle.json", metrics("reference") | {"system": reference})
        for system in (SELECTED, "oracle"):
            self.write_rows(f"predictions/moments/{system}/queries.jsonl", queries)

    def add_embeddings(self):
        """Frames and captions in two dimensions: one frame of the last video fits its caption, all of the others do."""
        save_records(
            self.root / "raw", Caption, [Caption(f"c{v:02}", f"v{v}", "x", None, None) for v in range(QUERIES)]
        )
        folder, angles = self.root / "toy-small_clip", np.arange(QUERIES) * 2 * np.pi / QUERIES
        captions_QD = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        frames_QFD = np.repeat(captions_QD[:, None], 4, axis=1)
        frames_QFD[-1, 1:] *= -1
        rows = [EmbeddedVideo(f"v{v}", "test", 4.0, 4 * v, 4, [0, 1, 2, 3], [0, 3]).row() for v in range(QUERIES)]
        write_rows(folder / "index.jsonl", rows)
        save_array(folder / "frames.npy", frames_QFD.reshape(-1, 2))
        save_array(folder / "captions.npy", captions_QD)
        self.write("toy-small_clip/model.json", {"dim": 2, "clip_counts": [1]})

    def write(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")

    def add_retrieval(self, model, first, second):
        """Give every query these ranks with one clip and with two."""
        ranks = {"rank": [second], "rank_by_num_clips": {"1": [first], "2": [second]}}
        rows = [{"caption_id": f"c{query:02}", "text": "a red circle"} | ranks for query in range(QUERIES)]
        for query, row in enumerate(rows):
            row |= {"video_id": f"v{query}", "hardest_negatives": [f"v{(query + 1) % QUERIES}"]}
        self.write_rows(f"predictions/retrieval/{model}-mean/ranks.jsonl", rows)
        by_num_clips = {}
        for clips, rank in (("1", first), ("2", second)):
            recall = 100.0 * (rank <= 1)
            values = {name: recall for name in ("R@1", "R@2", "R@5", "R@10", "MRR")} | {"MedR": rank}
            values["ci95"] = {"R@1": [recall, recall]}
            by_num_clips[clips] = {"t2v": values, "v2t": values}
        protocol = {"num_queries": QUERIES, "missing_queries": 0, "missing_videos": 0, "clip_frames": 8}
        found = by_num_clips["2"] | {"by_num_clips": by_num_clips, "protocol": protocol}
        self.write_metrics("retrieval", model, found, scorer="mean")

    def write_rows(self, name, rows):
        self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def add_moments(self, numbers, queries, examples=None):
        """Moments with a result, and the frames of the videos."""
        searched = {"method": "vc1", "post_processing": "none", "objective": "R1@0.5", "best_value": 55.27}
        searched |= {"parameters": {"threshold": 0.61}, "importances": {}}

        def metrics(kind):
            of_kind = {"thresholds": searched if kind == "selection" else None, "frames_from": "selection"}
            counts = {"num_queries": QUERIES, "missing_queries": 0, "missing_videos": 0}
            return numbers | {"protocol": {"kind": kind} | of_kind | counts}

        self.write_moments(metrics, queries)
        self.write_rows(
            f"predictions/moments/{SELECTED}/trials.jsonl", [{"number": 0, "value": 55.27, "threshold": 0.6}]
        )
        points = [{"parameter": "threshold", "at": at, "value": 50.0} for at in (0.0, 1.0)]
        self.write_rows(f"predictions/moments/{SELECTED}/sensitivity.jsonl", points)
        if examples is not None:
            self.write_rows(f"predictions/moments/{SELECTED}/examples.jsonl", examples)

    def add_frames(self):
        rows = []
        for video in range(QUERIES):
            video_id = f"v{video}"
            save_array(self.root / "frames" / f"{video_id}.npy", np.full((2, 8, 8, 3), 10 * video, dtype=np.uint8))
            row = {"video_id": video_id, "file": f"{video_id}.npy", "first": 0, "length": 2, "timestamps": [1.0, 3.0]}
            rows.append(row | {"uniform": [0], "clips": [0, 1]})
        self.write_rows("frames/frames.jsonl", rows)

    def run(self, output="out", **elsewhere):
        folders = ("raw", "frames", "metrics", "plots", "predictions", "published", "studies")
        arguments = {name: self.root / name for name in folders} | elsewhere
        embeddings = {"embeddings": self.root / "toy-small_clip", "coverage_model": "small_clip"}
        self.stage.main(**arguments, **embeddings, summary=self.root / "summary.json", output=self.root / output)
        return self.files(output)

    def files(self, output="out"):
        folder = self.root / output
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def make_workplace():
    """A workplace in a folder."""

    def make(root):
        spec = importlib.util.spec_from_file_location("report_stage", ROOT / "src" / "report.py")
        place = Workplace(root)
        place.stage = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(place.stage)
        place.stage.load_params = lambda: SimpleNamespace(model_dump=lambda by_alias, include: place.params)
        return place

    return make


@pytest.fixture
def workplace(make_workplace, tmp_path):
    return make_workplace(tmp_path)


@dataclass
class Shown:
    """What the page shows on one line: a row of a table, a finding, a measurement of a claim, a card."""

    kind: str
    section: str
    is_heading: bool
    cells: list[str] = field(default_factory=lambda: [""])
    """Of a row; of the others one."""
    leads: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    """Collects the lines of a page."""

    def __init__(self):
        super().__init__()
        self.shown, self.open, self.section, self.list = [], [], "", ""

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        classes = (attributes.get("class") or "").split()
        if tag == "section":
            self.section = attributes.get("id", "")
        if tag in ("ol", "ul"):
            self.list = classes[0] if classes else ""
        finding = tag == "li" and self.list == "findings"
        kind = "row" if tag == "tr" else "finding" if finding else next(iter({"measure", "card"} & set(classes)), "")
        one = Shown(kind, self.section, "group" in classes) if kind else None
        if tag in ("tr", "li", "div", "a"):
            self.open.append((tag, one))
        for _, line in self.open:
            if line and tag == "a":
                line.leads.append(attributes["href"])
            if line and line.kind == "row" and tag in ("th", "td"):
                line.cells.append("")
                line.is_heading = line.is_heading or attributes.get("scope") == "col"
        if one:
            self.shown.append(one)

    def handle_endtag(self, tag):
        if tag in ("tr", "li", "div", "a"):
            while self.open.pop()[0] != tag:
                pass

    def handle_data(self, data):
        for _, line in self.open:
            if line:
                line.cells[-1] += data


@pytest.fixture(scope="session")
def shown_in():
    """The lines of a page of HTML that numbers stand on; of the cells of a row the first is what precedes them."""

    def read(page):
        reader = _Reader()
        reader.feed(page)
        return [line for line in reader.shown if any(cell.strip() for cell in line.cells)]

    return read
