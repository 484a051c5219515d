"""What is made of what: models and systems of retrieval, each a record under its name."""

from pydantic import Field

from stillmotion.config.section import Name, PathName, Section, Seed


class MadeModel(Section):
    """A model that is made of another one."""

    base_model: PathName = Field(alias="from")
    """`from` in params.yaml: a backbone of run.backbones, or another model that is made."""


class ExpandedModel(MadeModel):
    """A backbone with the modules that make it a video model."""

    expansion: Name
    """Key of `expansions`."""


class FineTunedModel(MadeModel):
    """A model that is fine-tuned on the active dataset."""

    recipe: Name
    """Key of `recipes`."""
    seed: Seed


class PostPretrainedModel(FineTunedModel):
    """A model that is trained on another, larger dataset first."""

    dataset: PathName
    """One of run.corpora."""


class RetrievalSystem(Section):
    """A model, and how its embeddings score texts and videos."""

    model: PathName
    """One of run.embedded."""
    scorer: Name
    """Key of `scorers`."""
