"""The stage on embeddings made by hand, for each kind of scorer; what a kind makes of a pair is tested beside it."""

import functools
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml
import torch
from typer.testing import CliRunner

from stillmotion.backbones.clip4clip_backbone import Clip4ClipSettings, expand_clip4clip
from stillmotion.backbones.registry import load_backbone
from stillmotion.backbones.xclip_expansion import expand_clip
from stillmotion.backbones.xclip_prompts import build_prompts, prompt_settings
from stillmotion.cli import app
from stillmotion.config.loading import FAMILIES
from stillmotion.config.models import BuiltinBackboneParams, XClipExpansionParams
from stillmotion.config.scorers import BestLayerParams, HeadParams, PooledStatesParams, TransformerParams
from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.errors import InputError
from stillmotion.experiments.definition import experiment_names, load_experiment, read_mapping
from stillmotion.experiments.settings import resolve
from stillmotion.io.arrays import save_array
from stillmotion.io.memo import folder_digest
from stillmotion.io.records import Caption, Video, save_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.io.weights import load_tensors, save_tensors
from stillmotion.retrieval.aggregators import build_aggregator
from stillmotion.training.builtin import new_builtin

ROOT = Path(__file__).resolve().parents[1]
DIM, FRAMES, TOKENS, COUNTS = 16, 3, 4, [1, 2]
TEST = [f"v{number}" for number in range(8)]
TEXT_OF = {"v0": "equal", "v1": "equal"} | {name: f"about {name}" for name in TEST[2:]}
CAPTIONS = sorted(
    [Caption(f"{name}#0", name, TEXT_OF.get(name, "other"), None, None) for name in [*TEST, "lost", "train"]]
    + [Caption(f"{name}#1", name, "a part", 0.0, 1.0) for name in TEST]
    + [Caption(f"{name}#2", name, f"again about {name}", None, None) for name in TEST[2:4]],
    key=lambda caption: caption.caption_id,
)
SPLITS = {"train": "train", "lost": "test"} | dict.fromkeys(TEST, "test")
DECODED = ["train", *TEST]
SYSTEM = {
    "model": "small-tight-0",
    "base": "small",
    "expansion": "tight",
    "pretraining": {"dataset": "narrated", "recipe": "narrations", "seed": 0},
    "recipe": "cosine",
    "seed": 0,
}
INTERACTION = {"kind": "interaction", "interaction": "mutual", "tau": 10.0, "top_k": 1, "dual_softmax": False}
SCORERS = {
    "mean": {"kind": "mean"},
    "transformer_mean": {"kind": "transformer_mean", "heads": 2, "mlp_ratio": 1.0},
    "class_token": {"kind": "class_token", "heads": 2, "mlp_ratio": 1.0},
    "mug": INTERACTION,
    "dual": INTERACTION | {"dual_softmax": True},
    "conditional": {"kind": "conditional", "top_k": 2},
    "own": {"kind": "own"},
}
OF_VIDEO_LLMS = (PooledStatesParams, BestLayerParams, HeadParams)
"""What reads a video LLM's states or asks it: tests/retrieval/test_{hidden_states,heads,answers}.py."""


@functools.cache
def blocks():
    """A scorer of each kind, of params.yaml or an experiment: a new kind is tested here by the block that runs it."""
    params = read_mapping(ROOT / "params.yaml")
    experiments = (load_experiment(name, ROOT / "experiments") for name in experiment_names(ROOT / "experiments"))
    resolved = [params, *(resolve(experiment, params) for experiment in experiments)]
    return {block["kind"]: block for found in resolved for block in found["scorers"].values()}


NEW = {kind for kind, params in FAMILIES["scorers"].items() if not issubclass(params, OF_VIDEO_LLMS)}
SCORERS |= {kind: blocks()[kind] for kind in sorted(NEW - {block["kind"] for block in SCORERS.values()})}


def unit(*shape, seed):
    found = np.random.default_rng(seed).standard_normal((*shape, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def make_clip():
    sizes = {"image_size_px": 16, "patch_size_px": 8, "width": 16, "layers": 1, "text_layers": 1, "heads": 2}
    training = {"steps": 1, "batch_size": 2, "learning_rate": 1e-3, "weight_decay": 0.1, "warmup_fraction": 0.1}
    params = BuiltinBackboneParams(family="builtin", embed_dim=DIM, max_sentences=1, seed=0, **sizes, **training)
    return new_builtin(params).eval()


def shaken(module, seed):
    """Weights whose scores are far apart."""
    with torch.no_grad():
        for value in module.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(seed)), alpha=0.3)


def script_of(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "src" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Videos of the test split in the rows after one of train, one that could not be decoded, and a tight transformer.

    Its embeddings hold what every kind of scorer needs.
    """
    root = tmp_path_factory.mktemp("project")
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["scorers"] = SCORERS
    params["retrieval"] = {}
    params["evaluate_retrieval"] |= {"bootstrap_samples": 10}
    params["train_aggregator"] |= {"seeds": [3, 5], "epochs": 1}
    with (root / "params.yaml").open("w", encoding="utf-8") as out:
        yaml.dump(params, out)
    make_clip().save(root / "clip", {"system": SYSTEM})
    model = expand_clip4clip(make_clip(), Clip4ClipSettings("tight_transformer", 1, 0))
    shaken(model.head, 1)
    model.save(root / "model", {"system": SYSTEM})
    videos = [
        Video(name, f"{name}.mp4", split, None, None, None, None, None, None, "ok") for name, split in SPLITS.items()
    ]
    save_records(root / "raw", Video, videos)
    save_records(root / "raw", Caption, CAPTIONS)
    write_embeddings(root / "embedded", folder_digest(root / "model"))
    return root


def write_embeddings(folder, digest):
    rows = [EmbeddedVideo(name, SPLITS[name], 4.0, 0, 1, [0], [0]).row() for name in DECODED]
    write_rows(folder / "index.jsonl", rows)
    described = {"model": digest, "dim": DIM, "clip_counts": COUNTS, "clip_frames": FRAMES, "system": SYSTEM}
    write_json(folder / "model.json", described | {"logit_scale": 14.0, "truncated": {"captions": 3}})
    save_array(folder / "clips.npy", unit(len(DECODED), sum(COUNTS), seed=0))
    save_array(folder / "clip_frames.npy", unit(len(DECODED), FRAMES, seed=1))
    number_of = {text: number for number, text in enumerate(sorted({row.text for row in CAPTIONS}))}
    save_array(folder / "captions.npy", np.stack([unit(seed=number_of[row.text] + 10) for row in CAPTIONS]))
    tokens = [unit(TOKENS, seed=number_of[row.text] + 100) for row in CAPTIONS]
    save_array(folder / "caption_tokens.npy", np.concatenate(tokens))
    save_array(folder / "caption_token_offsets.npy", TOKENS * np.arange(len(CAPTIONS) + 1))
    save_array(folder / "contexts.npy", np.random.default_rng(4).standard_normal((len(DECODED), 5, DIM), np.float32))
    save_array(folder / "caption_lengths.npy", np.linspace(1.0, 2.0, len(CAPTIONS), dtype=np.float32))
    expansion = XClipExpansionParams(
        family="xclip", num_frames=FRAMES, integration_layers=1, prompt_layers=1, max_tokens=20, seed=0
    )
    xclip = expand_clip(make_clip(), expansion)
    shaken(xclip.model.prompts_generator, 2)
    tensors = xclip.model.prompts_generator.state_dict()
    save_tensors(folder / "prompts.safetensors", tensors, prompt_settings(xclip.model))


@pytest.fixture
def evaluate(project, monkeypatch):
    """Run the stage in this process, and what it wrote."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("STILLMOTION_DEVICE", "cpu")
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    threads = torch.get_num_threads()
    stage = script_of("evaluate_retrieval")

    def run(scorer, *, model="model", raw="raw", embeddings="embedded", aggregator="none", system=""):
        system = system or scorer
        metrics, predictions = Path(f"metrics/{system}.json"), Path(f"data/predictions/retrieval/{system}")
        stage.main(scorer, Path(model), Path(aggregator), Path(raw), Path(embeddings), metrics, predictions)
        rows = (predictions / "ranks.jsonl").read_text(encoding="utf-8").splitlines()
        return json.loads(metrics.read_text(encoding="utf-8")), [json.loads(line) for line in rows]

    yield run
    torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
    torch.set_num_threads(threads)


@pytest.fixture
def train(project, monkeypatch):
    """Run stage train_aggregator in this process: its folder."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("STILLMOTION_DEVICE", "cpu")

    def run(scorer, embeddings="embedded"):
        output = Path("aggregators") / scorer
        shutil.rmtree(output, ignore_errors=True)
        script_of("train_aggregator").main(scorer, Path("raw"), Path(embeddings), output, Path("plot.json"))
        return output

    return run


def whole():
    """The queries: rows of captions.jsonl, and each one's video as a place in TEST."""
    rows = [row for row, caption in enumerate(CAPTIONS) if caption.start is None and caption.video_id in TEST]
    return rows, np.array([TEST.index(CAPTIONS[row].video_id) for row in rows])


def rank(scores_Q, right):
    """Of the best of `right`; what ties with it shares the mean rank."""
    best, others = max(scores_Q[right]), np.delete(scores_Q, right)
    return 1 + np.sum(others > best) + np.sum(others == best) / 2


def read(project, name):
    return np.load(project / "embedded" / name).astype(np.float64)


def cosines(project):
    """Of the queries with the mean of the two clips: what `mean` ranks by."""
    videos = read(project, "clips.npy")[1:, 1:].mean(1)
    return read(project, "captions.npy")[whole()[0]] @ (videos / np.linalg.norm(videos, axis=1, keepdims=True)).T


def softmax(values):
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def mug(tokens, frames, tau):
    """METHODS.md section 6, a number at a time."""
    cosines = [[float(np.dot(t, f)) for f in frames] for t in tokens]
    columns = [list(column) for column in zip(*cosines, strict=True)]
    own = [
        [sum(w * s for w, s in zip(softmax([tau * s for s in row]), row, strict=True)) for row in rows]
        for rows in (cosines, columns)
    ]
    a, b = (softmax([tau * s for s in scores]) for scores in own)
    return sum(a[i] * cosines[i][j] * b[j] for i in range(len(a)) for j in range(len(b)))


def mug_scores(project):
    frames = read(project, "clip_frames.npy")[1:]
    tokens = read(project, "caption_tokens.npy").reshape(len(CAPTIONS), TOKENS, DIM)
    return np.array([[mug(tokens[row], video, 10.0) for video in frames] for row in whole()[0]])


def tight_scores(project):
    head = load_backbone(project / "model", torch.device("cpu")).head
    frames = torch.from_numpy(np.load(project / "embedded" / "clip_frames.npy"))[1:]
    texts = torch.from_numpy(np.load(project / "embedded" / "captions.npy"))
    seen = torch.ones(1, FRAMES, dtype=torch.bool)
    with torch.no_grad():
        return np.array(
            [[head(texts[row : row + 1], video[None], seen).item() for video in frames] for row in whole()[0]]
        )


def conditional_scores(project):
    """In each direction the best two by cosines stand above all others, by what the text becomes beside the video."""
    prompts = build_prompts(*load_tensors(project / "embedded" / "prompts.safetensors"))
    rows, _ = whole()
    texts, lengths = read(project, "captions.npy")[rows], read(project, "caption_lengths.npy")[rows]
    videos, contexts = read(project, "clips.npy")[1:, 0], np.load(project / "embedded" / "contexts.npy")[1:]
    plain, adapted = texts @ videos.T, np.empty((len(rows), len(videos)))
    for text, video in np.ndindex(adapted.shape):
        own = torch.tensor(texts[text] * lengths[text], dtype=torch.float32)[None, None]
        with torch.no_grad():
            told = (own + prompts(own, torch.from_numpy(contexts[video])[None])).double().numpy()[0, 0]
        adapted[text, video] = told @ videos[video] / np.linalg.norm(told)
    t2v, v2t = plain.copy(), plain.copy()
    for text in range(len(rows)):
        best = np.argsort(-plain[text])[:2]
        t2v[text, best] = adapted[text, best] + 10
    for video in range(len(videos)):
        best = np.argsort(-plain[:, video], kind="stable")[:2]
        v2t[best, video] = adapted[best, video] + 10
    return t2v, v2t


def scores_of(project, scorer):
    """What each direction is ranked by, worked out beside the stage."""
    if scorer == "conditional":
        return conditional_scores(project)
    found = {"mean": cosines, "mug": mug_scores, "dual": mug_scores, "own": tight_scores}[scorer](project)
    weights = np.exp(10 * found)
    if scorer == "dual":
        return found * weights / weights.sum(0), found * weights / weights.sum(1, keepdims=True)
    return found, found


UNTRAINED = ["mean", "mug", "dual", "conditional", "own"]


@pytest.mark.parametrize("scorer", UNTRAINED)
def test_both_directions_are_ranked_by_the_scorer_s_formula(project, evaluate, train, scorer):
    metrics, rows = evaluate(scorer, aggregator=train(scorer))
    t2v, v2t = scores_of(project, scorer)
    queries, video_of = whole()
    of_texts = [rank(t2v[text], [video]) for text, video in enumerate(video_of)]
    of_videos = [rank(v2t[:, video], np.flatnonzero(video_of == video)) for video in range(len(TEST))]
    assert [row["caption_id"] for row in rows] == [CAPTIONS[row].caption_id for row in queries]
    assert [row["rank"] for row in rows] == [[found] for found in of_texts]
    for row, text in zip(rows, t2v, strict=True):
        others = [TEST[video] for video in np.argsort(-text) if TEST[video] != row["video_id"]]
        assert row["hardest_negatives"] == others[:5]
    assert metrics["t2v"]["MeanR"] == pytest.approx(np.mean(of_texts), abs=1e-4)
    assert metrics["t2v"]["R@1"] == pytest.approx(100 * np.mean(np.array(of_texts) <= 1), abs=1e-4)
    assert metrics["v2t"]["MeanR"] == pytest.approx(np.mean(of_videos), abs=1e-4)
    if scorer == "conditional":
        plain = read(project, "captions.npy")[queries] @ read(project, "clips.npy")[1:, 0].T
        assert of_texts != [rank(plain[text], [video]) for text, video in enumerate(video_of)]
    if scorer in ("mean", "mug", "own"):
        # Two videos have texts that are equal, and tie.
        assert any(place % 1 for place in of_videos)
    most = str(metrics["protocol"]["num_clips"])
    assert most == ("2" if scorer == "mean" else "1")
    assert [row["rank_by_num_clips"][most] for row in rows] == [[found] for found in of_texts]
    assert metrics["by_num_clips"][most] == {name: metrics[name] for name in metrics["by_num_clips"][most]}
    assert list(metrics["by_num_clips"]) == (["1", "2"] if scorer == "mean" else ["1"])


@pytest.mark.parametrize("scorer", ["transformer_mean", "class_token"])
def test_an_aggregator_is_evaluated_with_each_number_of_clips_and_each_seed_that_trained_it(project, evaluate, scorer):
    """Of one that adds nothing to its clips, transformer_mean is the mean, and class_token the same for each video."""
    folder = project / "aggregators" / f"silent-{scorer}"
    for num_clips in COUNTS:
        for seed in (3, 5):
            module = build_aggregator(TransformerParams(**SCORERS[scorer]), dim=DIM, num_clips=num_clips, seed=seed)
            with torch.no_grad():
                module.positions.zero_()
                for name, value in module.block.named_parameters():
                    if "out_proj" in name or "linear2" in name:
                        value.zero_()
            save_tensors(folder / f"clips-{num_clips}" / f"seed-{seed}.safetensors", module.state_dict())
    shape = {"dim": DIM, "clip_counts": COUNTS, "seeds": [3, 5], "selected_on": "validation"}
    write_json(folder / "aggregator.json", shape | {"model": folder_digest(project / "model")})
    metrics, rows = evaluate(scorer, aggregator=folder)
    _, video_of = whole()
    if scorer == "transformer_mean":
        wanted = [rank(scores, [video]) for scores, video in zip(cosines(project), video_of, strict=True)]
        assert metrics["t2v"]["MeanR"] == pytest.approx(np.mean(wanted), abs=1e-4)
    else:
        wanted = [(1 + len(TEST)) / 2] * len(video_of)
    assert [row["rank"] for row in rows] == [[found, found] for found in wanted]
    assert metrics["protocol"]["seeds"] == [3, 5]
    assert metrics["protocol"]["selected_on"] == "validation"
    assert list(metrics["by_num_clips"]) == ["1", "2"]


def test_what_was_trained_on_embeddings_of_another_model_is_refused(project, evaluate, train):
    folder = train("mean")
    described = json.loads((folder / "aggregator.json").read_text(encoding="utf-8"))
    write_json(folder / "aggregator.json", described | {"model": "of another model"})
    with pytest.raises(InputError) as caught:
        evaluate("mean", aggregator=folder)
    assert str(caught.value) == (
        f"{folder}: trained on the embeddings of another model than embedded holds; train it again"
    )


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("aggregator.json", '"selected_on"', '"x"', "selected_on is missing"),
        ("aggregator.json", '"dim": ', '"dim": "x", "y": ', "dim is 'x': Input should be a valid integer"),
        ("aggregator.json", None, 30, "cut, or no JSON (EOF"),
        ("model.json", '"truncated"', '"x"', "truncated is missing"),
        ("model.json", '"clip_counts": [', '"clip_counts": ["x", ', "clip_counts.0 is 'x'"),
        ("index.jsonl", '"video_id"', '"x"', "row 1: video_id is missing"),
    ],
)
def test_a_file_that_is_read_by_key_and_damaged_is_one_line(
    project, evaluate, train, tmp_path, file, old, new, message
):
    folder = shutil.copytree(project / "embedded", tmp_path / "embedded")
    shutil.copy(train("mean") / "aggregator.json", folder)
    content = (folder / file).read_text(encoding="utf-8")
    (folder / file).write_text(content[:new] if old is None else content.replace(old, new, 1), encoding="utf-8")
    assert (folder / file).read_text(encoding="utf-8") != content
    with pytest.raises(InputError) as caught:
        evaluate("mean", embeddings=folder, aggregator=folder)
    assert str(caught.value).startswith(str(folder / file))
    assert message in str(caught.value)
    assert str(caught.value).endswith("; make it anew with `dvc repro`")


@pytest.mark.parametrize("scorer", UNTRAINED)
def test_the_protocol_says_what_was_done_and_what_is_missing(evaluate, train, scorer):
    protocol = evaluate(scorer, aggregator=train(scorer))[0]["protocol"]
    tricks = {
        "dual": "dual softmax over all test queries of each direction, temperature 1/10",
        "conditional": "conditional texts for the top 2",
    }
    assert protocol["inference_tricks"] == tricks.get(scorer, "none")
    assert (protocol["num_queries"], protocol["gallery_size"], protocol["missing_queries"]) == (10, 8, 1)
    assert (protocol["clip_frames"], protocol["truncated_captions"]) == (FRAMES, 3)
    assert (protocol["seeds"], protocol["split"], protocol["ties"]) == ([], "test", "average")
    assert protocol["selected_on"].startswith("nothing")
    assert protocol.get("scorer") == (SCORERS[scorer] if scorer in ("mug", "dual") else None)


@pytest.mark.parametrize("scorer", UNTRAINED)
def test_the_system_stands_in_fields(evaluate, train, scorer):
    assert evaluate(scorer, aggregator=train(scorer))[0]["system"] == SYSTEM | {"scorer": scorer}


def test_frames_of_a_video_that_are_alike_are_told(project, evaluate):
    frames = read(project, "clip_frames.npy")[1:]
    pairs = [video[first] @ video[second] for video in frames for first, second in ((0, 1), (0, 2), (1, 2))]
    assert evaluate("mug")[0]["mean_frame_cosine"] == pytest.approx(np.mean(pairs), abs=1e-4)


def test_compare_takes_the_results_as_those_of_any_system(project, evaluate):
    evaluate("mug")
    evaluate("own")
    compared = CliRunner().invoke(app, ["compare", "mug", "own", "--root", str(project), "--json"])
    assert json.loads(compared.stdout)["num_queries"] == 10


def empty(folder, digest):
    """A dataset without captions, and its embeddings."""
    save_records(folder, Video, [Video("train", "t.mp4", "train", None, None, None, None, None, None, "ok")])
    save_records(folder, Caption, [])
    described = {"model": digest, "dim": DIM, "clip_counts": COUNTS, "clip_frames": FRAMES, "system": SYSTEM}
    write_json(folder / "embedded" / "model.json", described | {"logit_scale": 1.0, "truncated": {}})
    write_rows(folder / "embedded" / "index.jsonl", [EmbeddedVideo("train", "train", 4.0, 0, 1, [0], [0]).row()])
    save_array(folder / "embedded" / "clips.npy", unit(1, sum(COUNTS), seed=0))
    save_array(folder / "embedded" / "captions.npy", np.zeros((0, DIM), np.float32))
    return folder / "embedded"


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_test_split_without_captions_is_an_empty_result(project, evaluate, tmp_path, scorer):
    embeddings = empty(tmp_path, folder_digest(project / "model"))
    write_json(
        tmp_path / "aggregator.json",
        {"model": folder_digest(project / "model"), "dim": DIM, "clip_counts": COUNTS, "seeds": [], "selected_on": "x"},
    )
    metrics, rows = evaluate(scorer, raw=tmp_path, embeddings=embeddings, aggregator=tmp_path, system="empty")
    assert (metrics["t2v"], metrics["v2t"], metrics["by_num_clips"], rows) == ({}, {}, {}, [])
    assert metrics["protocol"]["num_queries"] == 0
    assert metrics["system"]["scorer"] == scorer


@pytest.mark.parametrize(
    ("scorer", "missing", "mend"),
    [
        ("mug", "clip_frames.npy", "set embed.tokens: true"),
        ("mug", "caption_tokens.npy", "set embed.tokens: true"),
        ("own", "clip_frames.npy", "set embed.tokens: true"),
        ("conditional", "contexts.npy", "set embed.contexts: true"),
        ("conditional", "prompts.safetensors", "set embed.contexts: true"),
        ("conditional", "caption_lengths.npy", "set embed.contexts: true"),
    ],
)
def test_embeddings_without_what_the_scorer_needs_are_one_line(project, evaluate, tmp_path, scorer, missing, mend):
    shutil.copytree(project / "embedded", tmp_path / "embedded")
    (tmp_path / "embedded" / missing).unlink()
    with pytest.raises(InputError) as caught:
        evaluate(scorer, embeddings=tmp_path / "embedded", system="lacking")
    assert str(caught.value).startswith(f"{tmp_path / 'embedded' / missing}: no such file; {mend}")
    assert not (project / "metrics" / "lacking.json").exists()


def test_embeddings_of_another_dataset_are_one_line(project, evaluate, tmp_path):
    save_records(tmp_path, Video, [Video("x", "x.mp4", "test", None, None, None, None, None, None, "ok")])
    save_records(tmp_path, Caption, CAPTIONS)
    with pytest.raises(InputError, match="these embeddings are of another dataset: run the embed stage again"):
        evaluate("mean", raw=tmp_path)


def test_a_model_without_scores_of_its_own_is_one_line(evaluate):
    with pytest.raises(InputError) as caught:
        evaluate("own", model="clip")
    assert str(caught.value) == (
        "clip: this model was trained by embeddings and has no scores of its own; score it by another scorer than own"
    )


def test_own_scores_of_embeddings_by_another_model_are_one_line(project, evaluate):
    other = expand_clip4clip(make_clip(), Clip4ClipSettings("tight_transformer", 1, 1))
    other.save(project / "other", {"system": SYSTEM})
    with pytest.raises(InputError) as caught:
        evaluate("own", model="other")
    assert str(caught.value) == "embedded: made by another model than other; run the embed stage again"


def test_every_kind_of_scorer_has_a_block_in_params_or_an_experiment_that_runs_it():
    assert blocks().keys() == FAMILIES["scorers"].keys()


@pytest.mark.parametrize("scorer", SCORERS)
def test_ranks_lie_in_the_gallery_and_are_the_same_again(evaluate, train, scorer):
    folder = train(scorer)
    found = evaluate(scorer, aggregator=folder)
    for row in found[1]:
        assert all(1 <= rank <= len(TEST) for rank in row["rank"])
        assert set(row["hardest_negatives"]) < set(TEST) - {row["video_id"]}
    assert evaluate(scorer, aggregator=folder) == found


def run_script(project, scorer, system):
    options = {"scorer": scorer, "model": "model", "aggregator": "none", "raw": "raw", "embeddings": "embedded"}
    options |= {"metrics": f"metrics/{system}.json", "predictions": f"data/predictions/retrieval/{system}"}
    return subprocess.run(
        [
            *(sys.executable, str(ROOT / "src" / "evaluate_retrieval.py")),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ],
        cwd=project,
        env=os.environ | {"STILLMOTION_MEMO": "off", "STILLMOTION_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_script_writes_what_it_writes_in_this_process(project, evaluate):
    evaluate("mug")
    done = run_script(project, "mug", "started")
    assert done.returncode == 0, done.stderr
    for place in ("metrics/{}.json", "data/predictions/retrieval/{}/ranks.jsonl"):
        assert (project / place.format("started")).read_bytes() == (project / place.format("mug")).read_bytes()


@pytest.mark.slow
def test_a_scorer_that_params_do_not_name_is_one_line(project):
    done = run_script(project, "muk", "none")
    assert done.returncode == 2
    assert done.stderr == "evaluate_retrieval: error: params.yaml: scorers has no 'muk'; did you mean 'mug'?\n"
