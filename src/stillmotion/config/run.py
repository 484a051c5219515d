"""`run` of params.yaml: which of the named variants the DAG runs."""

from typing import Literal

from stillmotion.config.section import Name, Section

Reference = Literal["whole_video", "random_windows", "uniform_windows", "oracle"]


class RunParams(Section):
    """Which of the named variants the DAG runs: the lists that dvc.yaml's matrices go over."""

    backbones: list[Name]
    """Keys of `backbones`: fetched or trained."""
    expanded: list[Name]
    """Backbones to which each of `expansions` gives what makes them video models."""
    expansions: list[Name]
    """Keys of `expansions`; the model is called `<backbone>_<expansion>`."""
    corpora: list[Name]
    """Datasets that backbones are post-pretrained on: generated ones, or folders under data/sources/; never the active
    dataset."""
    post_pretrained: list[Name]
    """Backbones and expanded ones that each recipe of `post_pretraining` trains on each of `corpora`."""
    post_pretraining: list[Name]
    """Keys of `recipes`; the model is a backbone again, called `<backbone>_<corpus>_<recipe>`."""
    embedded: list[Name]
    """What is embedded as it is: backbones, expanded ones, and post-pretrained ones."""
    finetuned: list[Name]
    """Of these, the ones that each recipe fine-tunes."""
    recipes: list[Name]
    """Keys of `recipes`."""
    models: list[str]
    """What retrieval is evaluated with, by each of `aggregators`: `embedded` ones, or `<one of finetuned>-<recipe>`."""
    aggregators: list[Name]
    """Keys of `aggregators`."""
    conditional: list[str]
    """Of `models`, the X-CLIPs that are also scored with texts that depend on the video."""
    aligned: list[str]
    """What each alignment scores retrieval with, named as in `models`; with embed.tokens."""
    alignments: list[Name]
    """Keys of `alignments`; the system is called `<model>-<alignment>`."""
    tight: list[str]
    """Fine-tuned CLIP4Clips with a tight transformer, which scores retrieval; with embed.tokens. The system is called
    `<model>-tight_transformer`."""
    attended: list[str]
    """Fine-tuned models of which the report shows what is attended to."""
    probed: list[str]
    """What names actions, zero-shot and by few-shot probes: named as in `models`; with embed.spans."""
    assessed: list[str]
    """Models whose frames are assessed as finders of moments, named as in `models`; video models with
    embed.single_frames."""
    selected: list[str]
    """What each selection and each shot detector finds moments with: named as in `models`; video models with
    embed.single_frames."""
    selections: list[Name]
    """Keys of `selections`."""
    shot_detectors: list[Name]
    """Keys of `shot_detectors`; the system is called `<model>-<detector>`."""
    references: list[Reference]
    """Systems of moment retrieval that look at no frame."""
    submissions: list[Name]
    """Submissions of other systems: the files data/submissions/<dataset>/<name>.jsonl."""
    architectures: list[Name]
    """Keys of `architectures`, whose cost is measured at full size."""
