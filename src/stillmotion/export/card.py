"""The card of a model that is handed on: what it is, how it was made and measured, and what to mind.

All of it is read from the model's source.json, from params.yaml and from the metrics files of its systems.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from stillmotion.backbones import family_files
from stillmotion.config.loading import Params
from stillmotion.errors import InputError
from stillmotion.io.tables import read_json
from stillmotion.report.tables import markdown_table, number, with_interval

MOMENTS = ("MR-full-R1@0.5", "MR-full-R1@0.7", "MR-full-mAP")
RECALLS = ("R@1", "R@5", "R@10")
_FENCE = "```"


@dataclass(frozen=True)
class Family:
    """Who else can open a model folder."""

    library: str
    task: str
    """The hub's word for it."""
    opened_by: str
    """A line of Python; `{folder}` stands in it."""


FAMILIES: Mapping[str, Family] = {
    family_files.STAN: Family("stillmotion", "feature-extraction", ""),
    family_files.CLIP4CLIP: Family("stillmotion", "feature-extraction", ""),
    family_files.OPEN_CLIP: Family(
        "open_clip",
        "zero-shot-image-classification",
        "import open_clip\n\n"
        'model, preprocess = open_clip.create_model_from_pretrained("local-dir:{folder}")  # hub: "hf-hub:ORG/NAME"\n'
        'tokenizer = open_clip.get_tokenizer("local-dir:{folder}")\n',
    ),
    family_files.XCLIP: Family(
        "transformers",
        "video-classification",
        "from transformers import AutoTokenizer, XCLIPModel\n\n"
        'model = XCLIPModel.from_pretrained("{folder}")\ntokenizer = AutoTokenizer.from_pretrained("{folder}")\n',
    ),
}
"""By the file that tells a folder's family; the first that is there counts, as in `registry.load_embeds`."""
_OURS = Family("stillmotion", "feature-extraction", "")


def measured(root: Path, model: str, scorer: str | None) -> dict[str, dict[str, dict[str, Any]]]:
    """The metrics of a model's systems: retrieval by key, moments likewise.

    Args:
        root: of the project.
        model: its name.
        scorer: of the only system of retrieval to take; None for those that train nothing on top of the model.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {"retrieval": {}, "moments": {}}
    for task, systems in found.items():
        for path in sorted((root / "metrics" / task).glob("*.json")):
            content = read_json(path)
            system = content.get("system") or {}
            if system.get("model") != model:
                continue
            untrained = not content.get("protocol", {}).get("seeds")
            if task == "moments" or (untrained if scorer is None else system.get("scorer") == scorer):
                systems[path.stem] = content
    return found


def model_card(
    name: str,
    model: Path,
    source: Mapping[str, Any],
    params: Params,
    systems: Mapping[str, Mapping[str, Mapping[str, Any]]],
    *,
    license_id: str,
    aggregator: Mapping[str, Any] | None,
) -> str:
    """The README.md of an export.

    Args:
        name: of what is handed on.
        model: its folder.
        source: the content of its source.json.
        params: of the project, whose dataset the metrics are of.
        systems: as `measured`.
        license_id: as the hub writes it, such as apache-2.0; `unknown` where nobody has said.
        aggregator: what aggregator.json says, where one is handed on.

    Raises:
        InputError: a metrics file does not hold what it should.
    """
    family = next((each for file, each in FAMILIES.items() if (model / file).is_file()), _OURS)
    library = "stillmotion" if aggregator else family.library
    dataset, retrieval = params.dataset, systems["retrieval"]
    try:
        results = [result for key in retrieval for result in _results(retrieval[key], dataset)]
        measured_parts = _measured_parts(systems, dataset)
        caveats = _caveats(systems, params, aggregator)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"metrics of {name}: {error!r:.80} is missing; make them anew with `dvc repro`") from None
    header = ModelCardData(
        license=license_id,
        library_name=library,
        pipeline_tag=family.task if library == family.library else "feature-extraction",
        tags=["stillmotion", "video", "text-video-retrieval", "moment-retrieval"],
        base_model=source.get("repository") or source.get("checkpoint"),
        model_name=name,
        eval_results=results,
    )
    parts = [
        f"---\n{header.to_yaml().strip()}\n---",
        f"# {name}",
        f"Embeds videos and texts in one space; exported by Stillmotion. Evaluated on the dataset `{dataset}`.",
        "## Use",
        _code("python", 'from stillmotion.api import open_model\n\nmodel = open_model("FOLDER")  # this folder\n'),
    ]
    if family.opened_by:
        what = "The model alone, without its aggregator: " if aggregator else ""
        parts += [f"{what}as any model of {family.library}:", _code("python", family.opened_by.format(folder="FOLDER"))]
    architecture = {**source, **source.get("backbone", {})}.get("architecture")
    if architecture and family is FAMILIES[family_files.OPEN_CLIP]:
        parts.append(
            "As a backbone of another pipeline: `open_clip_model.safetensors` as `data/weights/NAME.safetensors`, and "
            f"in params.yaml `family: open_clip`, `architecture: {architecture}`, `pretrained: file`."
        )
    elif family is FAMILIES[family_files.XCLIP]:
        parts.append(
            "As a backbone of another pipeline: this folder as `data/weights/NAME`, with `checkpoint: folder`."
        )
    made = {"source": source} if aggregator is None else {"source": source, "aggregator": aggregator}
    parts += ["## How it was made", _code("json", json.dumps(made, indent=2, ensure_ascii=False) + "\n")]
    parts += ["## What was measured", *(measured_parts or ["Nothing: no metrics file is of this model."])]
    parts += ["## What to mind", "\n".join(f"- {line}" for line in caveats)]
    return "\n\n".join(parts) + "\n"


def _code(language: str, text: str) -> str:
    return f"{_FENCE}{language}\n{text}{_FENCE}"


def _results(metrics: Mapping[str, Any], dataset: str) -> list[EvalResult]:
    """The hub's index of results: R@K of both directions."""
    split = metrics["protocol"]["split"]
    results = []
    for direction, task in (("t2v", "text-to-video-retrieval"), ("v2t", "video-to-text-retrieval")):
        for recall in RECALLS if metrics[direction] else ():
            kind, value = f"recall_at_{recall.removeprefix('R@')}", metrics[direction][recall]
            results.append(EvalResult(task, dataset, dataset, kind, value, metric_name=recall, dataset_split=split))
    return results


def _measured_parts(systems: Mapping[str, Mapping[str, Mapping[str, Any]]], dataset: str) -> list[str]:
    """A table of each task that was measured, under a line of its protocol."""
    parts = []
    retrieval = {key: found for key, found in systems["retrieval"].items() if found["t2v"]}
    if retrieval:
        first = next(iter(retrieval.values()))["protocol"]
        rows = [
            [
                key,
                *(with_interval(found["t2v"], recall) for recall in RECALLS),
                with_interval(found["v2t"], "R@1"),
                str(found["protocol"]["num_clips"]),
                str(len(found["protocol"]["seeds"]) or 1),
                found["protocol"]["selected_on"],
            ]
            for key, found in retrieval.items()
        ]
        parts += [
            f"Retrieval on the {first['split']} split of `{dataset}`: {first['num_queries']} texts, "
            f"{first['gallery_size']} videos ({first['missing_videos']} could not be decoded), ties: {first['ties']}. "
            "Percentages with 95 % bootstrap intervals over the queries; of several seeds their mean.",
            markdown_table(["system", *RECALLS, "video to text, R@1", "clips", "seeds", "selected on"], rows),
        ]
    moments = {key: found for key, found in systems["moments"].items() if found["protocol"]["kind"] == "selection"}
    if moments:
        first = next(iter(moments.values()))["protocol"]
        rows = [
            [
                key,
                *(with_interval(found["brief"] | {"ci95": found["ci95"]}, metric) for metric in MOMENTS),
                number(found["coverage"]),
                found["protocol"]["selected_on"],
            ]
            for key, found in moments.items()
        ]
        names = [metric.removeprefix("MR-full-") for metric in MOMENTS]
        parts += [
            f"Moments on the {first['split']} split of `{dataset}`: {first['num_queries']} queries in "
            f"{first['num_videos']} videos, by the official protocol of QVHighlights.",
            markdown_table(["system", *names, "coverage", "thresholds from"], rows),
        ]
    return parts


def _caveats(
    systems: Mapping[str, Mapping[str, Mapping[str, Any]]], params: Params, aggregator: Mapping[str, Any] | None
) -> list[str]:
    protocols = [found["protocol"] for found in systems["retrieval"].values()]
    lines = [
        "Intervals are over the queries of one test set: another dataset, or another training, may differ by more."
    ]
    if params.dataset in params.download.generated:
        lines.append(
            f"`{params.dataset}` is a generated dataset of drawn shapes: of films of the world it says nothing."
        )
    if aggregator is not None and len(aggregator["seeds"]) > 1:
        lines.append(f"Measured as the mean of {len(aggregator['seeds'])} seeds; `open_model` takes the first of them.")
    if cut := max((protocol.get("truncated_captions", 0) for protocol in protocols), default=0):
        lines.append(f"{cut} captions of the test split are longer than the model reads, and were cut.")
    tricks = sorted({protocol.get("inference_tricks", "none") for protocol in protocols} - {"none"})
    lines += [f"Scored with {trick}." for trick in tricks]
    lines.append("The licence of the weights and of what they were trained on is for whoever hands them on to state.")
    return lines
