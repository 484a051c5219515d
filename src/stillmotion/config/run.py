"""`run` of params.yaml: which of the models and blocks the DAG runs."""

from typing import Literal

from stillmotion.config.section import Name, PathName, Section

Reference = Literal["whole_video", "random_windows", "uniform_windows", "oracle"]


class RunParams(Section):
    """The choices that dvc.yaml's stages go over; a model is one of `backbones`, or made of one."""

    backbones: list[Name]
    """Keys of `backbones`: fetched or trained."""
    corpora: list[PathName]
    """Datasets that backbones are post-pretrained on: generated ones, or folders under data/sources/; never the active
    dataset."""
    embedded: list[PathName]
    """Models whose embeddings are made, and whose training step is measured."""
    attended: list[PathName]
    """Fine-tuned models of which the report shows what is attended to."""
    probed: list[PathName]
    """Of `embedded`, what names actions, zero-shot and by few-shot probes; with embed.spans."""
    assessed: list[PathName]
    """Of `embedded`, models whose frames are assessed as finders of moments; video models with embed.single_frames."""
    selected: list[PathName]
    """Of `embedded`, what each selection and each shot detector finds moments with; video models with
    embed.single_frames."""
    selections: list[Name]
    """Keys of `selections`."""
    shot_detectors: list[Name]
    """Keys of `shot_detectors`; the system is called `<model>-<detector>`."""
    references: list[Reference]
    """Systems of moment retrieval that look at no frame."""
    submissions: list[PathName]
    """Submissions of other systems: the files data/submissions/<dataset>/<name>.jsonl."""
    architectures: list[Name]
    """Keys of `architectures`, whose cost is measured at full size."""
    experiment: Name | None = None
    """The file of experiments/ that these params were made by, which `stillmotion run` writes for messages to name."""
