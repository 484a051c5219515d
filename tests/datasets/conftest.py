from collections.abc import Callable

import pytest

from stillmotion.params import ToyParams

SMALL = {
    "seed": 0,
    "num_train": 6,
    "num_validation": 2,
    "num_test": 3,
    "size_px": 64,
    "fps": 8,
    "min_duration": 8.0,
    "max_duration": 12.0,
    "min_events": 3,
    "max_events": 4,
    "distractor_rate": 0.5,
    "return_rate": 0.5,
    "mismatch_rate": 0.5,
    "similarity_rate": 0.5,
}


@pytest.fixture(scope="session")
def toy_params() -> Callable[..., ToyParams]:
    """Params of a small generated dataset, with changes."""
    return lambda **changes: ToyParams(**{**SMALL, **changes})
