"""All captioned real clips through the stages, in this process: adapters of a small CLIP, answers of a SmolVLM2."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import peft
import pytest
import ruamel.yaml
import torch
from search_project import make_clip
from tiny_video_llms import SETTINGS, write

from stillmotion.backbones.registry import load_backbone, load_embeds
from stillmotion.embedding.reader import Embeddings
from stillmotion.embedding.states import StoredStates
from stillmotion.io.records import Caption, load_records
from stillmotion.io.tables import read_json, read_rows

pytestmark = [pytest.mark.slow, pytest.mark.real]

ROOT = Path(__file__).resolve().parents[2]
NUM_CLIPS, TOP_K = 33, 4
SYSTEM = dict.fromkeys(("expansion", "pretraining", "recipe", "seed")) | {"model": "small", "base": "small"}
LLM = {"family": "video_llm", "checkpoint": "folder", "revision": "main", "weights": "checkpoint", "seed": 0}
RERANK = {
    "kind": "rerank",
    "layer": "last",
    "video_pooling": "mean",
    "text_pooling": "mean",
    "top_k": TOP_K,
    "prompt": "{video}does it show {text}?",
    "yes": ["Y", "y"],
    "no": ["N", "n"],
    "batch_size": 7,
}


class Project:
    """A dataset of the clips with splits of the test's, and stages that run in it."""

    def __init__(self, root, memo, run_script):
        self.root, self.memo, self.run_script = root, memo, run_script

    def stage(self, name, *options):
        env = os.environ | {"STILLMOTION_MEMO": str(self.memo), "STILLMOTION_DEVICE": "cpu"}
        done = self.run_script(name, *options, cwd=self.root, env=env)
        assert done.returncode == 0, done.stderr

    def embed(self, model):
        data = ["--raw", "data/raw/real/tables", "--frames", "data/frames/real"]
        self.stage("embed", "--model", model, *data, "--output", f"data/embeddings/{Path(model).name}")
        return Embeddings(self.root / f"data/embeddings/{Path(model).name}")

    def evaluate(self, scorer, model, trained="models/none"):
        """The metrics, and the rank of each query by its id."""
        options = ["--scorer", scorer, "--model", model, "--aggregator", trained, "--raw", "data/raw/real/tables"]
        options += ["--embeddings", f"data/embeddings/{Path(model).name}", "--metrics", "metrics.json"]
        self.stage("evaluate_retrieval", *options, "--predictions", "ranks")
        rows = read_rows(self.root / "ranks/ranks.jsonl")
        return read_json(self.root / "metrics.json"), {row["caption_id"]: row["rank"] for row in rows}

    def queries(self, embedded):
        """Rows of the videos of the test split in the embeddings, their captions' ids and rows in captions.jsonl."""
        said = load_records(self.root / "data/raw/real/tables", Caption)
        rows_of = {caption.video_id: row for row, caption in enumerate(said)}
        videos = [row for row, video in enumerate(embedded.videos) if video.split == "test"]
        texts = [rows_of[embedded.videos[row].video_id] for row in videos]
        return videos, texts, [said[row] for row in texts]


@pytest.fixture(scope="module")
def new_project(real_material, run_script, tmp_path_factory):
    memo = tmp_path_factory.mktemp("memo")

    def make(split_of, **changes):
        root = tmp_path_factory.mktemp("project")
        source = root / "data/sources/real"
        source.mkdir(parents=True)
        with (real_material / "captions.csv").open(encoding="utf-8", newline="") as file:
            said = [(row["video"], row["caption"]) for row in csv.DictReader(file)]
        assert len(said) == NUM_CLIPS
        with (source / "captions.csv").open("w", encoding="utf-8", newline="") as file:
            rows = [(name, text, split_of(place)) for place, (name, text) in enumerate(said)]
            csv.writer(file).writerows([("video", "caption", "split"), *rows])
        for name, _ in said:
            shutil.copyfile(real_material / "videos" / name, source / name)
        yaml = ruamel.yaml.YAML()
        params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["dataset"], params["threads"] = "real", 1
        params["sample_frames"].update(size_px=32, num_uniform=8, clip_length_s=10.0)
        params["embed"].update(clip_frames=4, clip_counts=[1], spans=False, single_frames=False)
        params["run"].update(probed=[], assessed=[])
        for section, blocks in changes.items():
            params[section].update(blocks)
        with (root / "params.yaml").open("w", encoding="utf-8") as out:
            yaml.dump(params, out)
        project = Project(root, memo, run_script)
        project.stage("download", "--source", "data/sources/real", "--output", "data/raw/real")
        project.stage("sample_frames", "--raw", "data/raw/real/tables", "--output", "data/frames/real")
        return project

    return make


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_adapter_is_trained_on_real_clips_and_its_base_stays_as_it_was(new_project):
    recipe = ruamel.yaml.YAML(typ="safe").load(ROOT / "experiments/lora.yaml")["set"]["recipes.lora"]
    recipe |= {"num_frames": 4, "epochs": 2, "batch_size": 8, "micro_batch_size": 3}
    project = new_project(lambda place: ("train", "train", "validation", "test")[place % 4], recipes={"lora": recipe})
    base, tuned = project.root / "models/small", project.root / "models/small-lora"
    make_clip().save(base, {"system": SYSTEM})
    before = contents(base)
    options = ["--recipe", "lora", "--seed", "0", "--backbone", "models/small", "--raw", "data/raw/real/tables"]
    project.stage(
        "finetune", *options, "--frames", "data/frames/real", "--output", "models/small-lora", "--plot", "p.json"
    )
    assert contents(base) == before == contents(tuned / "base")
    assert len(read_json(project.root / "p.json")) == 2

    theirs = load_backbone(base, torch.device("cpu"))
    theirs.model = peft.PeftModel.from_pretrained(theirs.model, str(tuned)).merge_and_unload()
    plain, embedded = project.embed("models/small"), project.embed("models/small-lora")
    videos, texts, captions = project.queries(embedded)
    with torch.no_grad():
        by_peft = theirs.embed_texts(theirs.tokens([caption.text for caption in captions])).numpy()
    found_T, found_V = np.array(embedded.captions)[texts], np.array(embedded.clips(1))[videos, 0]
    np.testing.assert_allclose(found_T, by_peft, atol=1e-5)
    assert np.abs(found_T - np.array(plain.captions)[texts]).max() > 1e-3
    assert np.abs(found_V - np.array(plain.clips(1))[videos, 0]).max() > 1e-3

    options = ["--scorer", "mean", "--raw", "data/raw/real/tables", "--embeddings", "data/embeddings/small-lora"]
    project.stage("train_aggregator", *options, "--output", "models/mean", "--plot", "mean.csv")
    metrics, ranks = project.evaluate("mean", "models/small-lora", "models/mean")
    assert (metrics["system"]["recipe"], metrics["protocol"]["gallery_size"]) == ("lora", len(videos))
    cosines = found_T @ found_V.T
    assert ranks == {
        caption.caption_id: [1.0 + (cosines[place] > cosines[place, place]).sum()]
        for place, caption in enumerate(captions)
    }


def literal_answer(video_llm, tokens, text):
    """The logarithm of yes against no by the public class, asked of one pair."""
    question = [{"type": "video"}, {"type": "text", "text": f"does it show {text}?"}]
    rendered = video_llm.processor.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    head, tail = rendered.split(video_llm.processor.video_token)
    ids = video_llm.tokenizer(head)["input_ids"] + [video_llm.model.config.image_token_id] * len(tokens)
    ids = torch.tensor([ids + video_llm.tokenizer(tail, add_special_tokens=False)["input_ids"]])
    embedded = video_llm.model.get_input_embeddings()(ids)
    embedded[0, ids[0] == video_llm.model.config.image_token_id] = torch.from_numpy(np.array(tokens))
    logits = video_llm.model(inputs_embeds=embedded, attention_mask=torch.ones_like(ids)).logits[0, -1].double()
    of = {word: logits[video_llm.tokenizer.convert_tokens_to_ids(word)].exp() for word in "YyNn"}
    return float((of["Y"] + of["y"]).log() - (of["N"] + of["n"]).log())


@torch.no_grad()
def test_all_real_clips_are_reranked_by_the_answers_of_a_literal_loop(new_project):
    backbone = SETTINGS | LLM | {"keep_tokens_of": "before_llm"}
    project = new_project(lambda place: "test", backbones={"smol": backbone}, scorers={"rerank": RERANK})
    write("smolvlm", project.root / "data/weights/smol")
    project.stage("backbone", "--name", "smol", "--weights", "data/weights", "--output", "models/smol")
    shutil.rmtree(project.root / "data/weights")
    embedded = project.embed("models/smol")
    videos, texts, captions = project.queries(embedded)
    assert len(videos) == NUM_CLIPS
    metrics, ranks = project.evaluate("rerank", "models/smol")
    assert metrics["protocol"]["rerank"]["visual_tokens"].startswith("in one run, without the marks of time")

    stored, video_llm = StoredStates(embedded.folder), load_embeds(project.root / "models/smol", torch.device("cpu"))
    tokens, offsets = stored.video_tokens
    unit = [
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (stored.captions("last", "mean")[texts], stored.videos("last", "mean")[videos])
    ]
    cosines = unit[0] @ unit[1].T
    for place, caption in enumerate(captions):
        order = list(np.argsort(-cosines[place], kind="stable"))
        said = [
            literal_answer(video_llm, tokens[offsets[videos[best]] : offsets[videos[best] + 1]], caption.text)
            for best in order[:TOP_K]
        ]
        order[:TOP_K] = [order[at] for at in np.argsort(-np.array(said), kind="stable")]
        assert ranks[caption.caption_id] == [1.0 + order.index(place)], caption.text
