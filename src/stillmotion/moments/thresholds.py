"""Reads thresholds.json, which stage optimise_thresholds writes."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator

from stillmotion.config.evaluation import Method
from stillmotion.io.checked import STRICT, read_checked
from stillmotion.moments.postprocess import PostProcessing

_PARAMETERS: dict[Method, list[str]] = {
    "vc1": ["threshold"],
    "vc1_beta": ["threshold", "least_confidence"],
    "vc2": ["threshold", "change", "share"],
}


class _Thresholds(BaseModel):
    model_config = STRICT

    method: Method
    post_processing: PostProcessing
    least_cosine: Annotated[float, Field(gt=0, lt=1)]
    parameters: dict[str, float]
    frozen_range: tuple[float, float] | None

    @model_validator(mode="after")
    def _has_what_its_method_needs(self) -> Self:
        needed = _PARAMETERS[self.method] + (["window"] if self.post_processing == "log_smooth_norm" else [])
        for name in needed:
            if name not in self.parameters:
                raise ValueError(f"parameters.{name} is missing, which {self.method}, {self.post_processing} needs")
        if self.post_processing == "adjust_norm" and self.frozen_range is None:
            raise ValueError("frozen_range is null, which adjust_norm needs")
        if not 0 < self.parameters.get("share", 1) <= 1:
            raise ValueError(f"parameters.share is {self.parameters['share']}: it is above 0 and at most 1")
        window = self.parameters.get("window", 3)
        if window < 3 or window % 2 != 1:
            raise ValueError(f"parameters.window is {window:g}: it is odd and at least 3")
        return self


def read_thresholds(path: Path) -> dict[str, Any] | None:
    """What `threshold_search.Study.summary` said; None where there was nothing to search on.

    Raises:
        InputError: see `read_checked`.
    """
    found: dict[str, Any] | None = read_checked(path, _Thresholds | None)
    return found
