"""Params of video LLMs: which model, what it is told, and which of its hidden states are kept."""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from stillmotion.config.section import Count, Section, Seed

Pooling = Literal["first", "max", "mean", "sum", "last_token"]
POOLINGS: tuple[str, ...] = get_args(Pooling)
LayerName = Annotated[str, StringConstraints(pattern=r"^(before_llm|last|layer:[1-9][0-9]*)$")]
"""`before_llm` (as the tokens enter the language model), `layer:k` (after its block k), `last`."""


def _rising(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("a name stands there twice; name each once")
    return names


class ChoiceParams(Section):
    """Whose hidden states are the embedding."""

    layer: LayerName
    """One of `layers`."""
    pooling: Pooling
    """One of `poolings`."""


class VideoLLMSettings(ChoiceParams):
    """What a video LLM is told and what is kept of it: the content of video_llm.json, but for the member."""

    num_frames: Count
    """Frame budget: a clip has this many."""
    prompt: str
    """What the user says of a video; `{video}` is its place."""
    text_prompt: str
    """What the user says of a text; `{text}` is its place."""
    system: str
    """Instruction, as the system's message before both; empty: none."""
    chat_template: str
    """`own`: the checkpoint's; `none`: prompts are all that the model is told; or a template in Jinja."""
    text_chat_template: str
    """Likewise, for texts."""
    max_tokens: Count
    """A text is cut to this many tokens, without those of the prompt around it."""
    precision: Literal["bf16", "fp32"]
    """Of the weights on a GPU; on a CPU it is always fp32."""
    layers: Literal["all"] | Annotated[list[LayerName], Field(min_length=1), AfterValidator(_rising)]
    """Layers that are kept."""
    poolings: Annotated[list[Pooling], Field(min_length=1), AfterValidator(_rising)]
    """Poolings that are kept, of each of these layers."""
    keep_tokens_of: LayerName | None
    """Layer whose unpooled tokens are kept too, for transformer heads; null: none."""

    @model_validator(mode="after")
    def _prompts_have_their_places(self) -> "VideoLLMSettings":
        for param, place in (("prompt", "{video}"), ("text_prompt", "{text}")):
            if getattr(self, param).count(place) != 1:
                raise ValueError(
                    f"{param} is {getattr(self, param)!r} and must hold {place} once; put it where it goes"
                )
        if self.system and "none" in (self.chat_template, self.text_chat_template):
            raise ValueError("system is a message of the chat template; set it to '', or both templates to own")
        if self.pooling not in self.poolings:
            raise ValueError(f"pooling {self.pooling!r} is not kept; add it to poolings, or choose one of them")
        return self


class VideoLLMBackboneParams(VideoLLMSettings):
    """A video LLM in the layout of transformers."""

    sees_clips_whole: ClassVar = True
    family: Literal["video_llm"]
    checkpoint: str
    """Hub id such as Qwen/Qwen3-VL-2B-Instruct, or `folder`: data/weights/<backbone>/ in the hub's layout."""
    revision: str
    """Commit, branch or tag of the hub repository."""
    weights: Literal["checkpoint", "random"]
    """`random`: initial weights of its config.json, from `seed`, for measuring and testing."""
    seed: Seed


class VideoLLMLayerParams(ChoiceParams):
    """The same video LLM with another layer and pooling as its embedding; it is not run again for that."""

    family: Literal["video_llm_layer"]


class VideoLLMArchitectureParams(Section):
    """A published video LLM by its configuration, for what it costs."""

    family: Literal["video_llm"]
    config: dict[str, Any]
    """The content of its config.json, where it differs from transformers' own defaults; with `model_type`."""
    num_frames: Count
    size_px: Count
    """Side of a frame, as its processor makes it."""
