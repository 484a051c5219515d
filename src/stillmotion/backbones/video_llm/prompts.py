"""What a video LLM is told, as one text with a place for the video or the text: by its chat template, or bare."""

from typing import Any

from jinja2.exceptions import TemplateError

from stillmotion.config.video_llms import VideoLLMSettings
from stillmotion.errors import InputError

TEXT = "\ue000"
"""Stands for the text in a rendered prompt: a character of private use, which no template holds."""


def _render(processor: Any, template: str, system: str, content: list[dict[str, str]]) -> str:
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    own = None if template == "own" else template
    try:
        rendered: str = processor.apply_chat_template(
            messages, chat_template=own, add_generation_prompt=True, tokenize=False
        )
    except (TemplateError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"params.yaml: the prompt does not go through the chat template ({reason:.120}); set chat_template and "
            "text_chat_template to none or to a template in Jinja"
        ) from None
    return rendered


def video_prompt(settings: VideoLLMSettings, processor: Any, part_type: str = "video") -> str:
    """The whole prompt of a video, with the processor's token in its place.

    Args:
        settings: with the prompt.
        processor: of the model.
        part_type: `video` or `image`, as the processor has a token for it and the template knows it.

    Raises:
        InputError: the template fails, or leaves out the video.
    """
    token: str = getattr(processor, f"{part_type}_token")
    if settings.chat_template == "none":
        return settings.prompt.replace("{video}", token)
    before, after = settings.prompt.split("{video}")
    content = [{"type": "text", "text": before}, {"type": part_type}, {"type": "text", "text": after}]
    content = [part for part in content if part.get("text") != ""]
    rendered = _render(processor, settings.chat_template, settings.system, content)
    if rendered.count(token) != 1:
        raise InputError(
            f"params.yaml: the chat template makes {rendered.count(token)} places for a video of the prompt; set "
            f"chat_template: none, or one that writes the token of {part_type} once"
        )
    return rendered


def text_prompt(settings: VideoLLMSettings, processor: Any) -> tuple[str, str]:
    """What stands before and behind a text.

    Raises:
        InputError: the template fails, or leaves out the text.
    """
    prompt = settings.text_prompt.replace("{text}", TEXT)
    if settings.text_chat_template != "none":
        content = [{"type": "text", "text": prompt}]
        prompt = _render(processor, settings.text_chat_template, settings.system, content)
    if prompt.count(TEXT) != 1:
        raise InputError("params.yaml: the chat template leaves out the text; set text_chat_template: none, or another")
    before, after = prompt.split(TEXT)
    return before, after
