"""What a STAN's branch is made of, and which layers of its tower it reads.

Source: Liu et al. 2023 (papers/mug-stan.txt), section III-B; METHODS.md section 6.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from stillmotion.errors import InputError

Structure = Literal["branch", "last_level_branch", "posterior"]
Temporal = Literal["self_attention", "conv", "joint"]
InterProj = Literal["linear", "none"]
ClassToken = Literal["clip", "frame"]
ClassTokenMean = Literal["after_attention", "after_mlp"]

_CHOICES = {
    "structure": Structure,
    "temporal": Temporal,
    "inter_proj": InterProj,
    "class_token": ClassToken,
    "class_token_mean": ClassTokenMean,
}


@dataclass(frozen=True)
class StanSettings:
    """What a branch is made of."""

    num_layers: int
    """K; the source takes 4, and 6 to recognise fine motion."""
    skipped_layers: int
    """Layers of the tower above the one that the last layer of the branch is aligned with; 0 in the source."""
    interval: int
    """Layers of the tower from one aligned layer to the next; 1 in the source."""
    structure: Structure
    """`branch`: each layer reads the tower's layer beside it; `last_level_branch`: each layer reads the last of
    those; `posterior`: only the first layer reads, the last of those, and the others follow it."""
    temporal: Temporal
    inter_proj: InterProj
    """What the second layer and those above read goes through a `linear` of the layer's own first (the paper), or
    not (its code). It starts as the identity, where both are the same."""
    class_token: ClassToken
    """What has a class token in the branch: the `clip`, the mean of its frames' in each layer (the source), or each
    `frame`, which learns of the others through its patches alone. The clip's gives all frames a share of one vector;
    the frames' are ours, for what compares frames one by one, as Mug does."""
    class_token_mean: ClassTokenMean
    """Where the clip's becomes that mean: between the attention within frames and the MLP (the source's code), or after
    both. Of no effect where no mean is taken: with a class token of each frame, and in joint attention."""
    max_frames: int
    """Rows of the time table: a clip has at most this many frames."""
    context_frames: int
    """Stored frames are embedded in runs of this many, each frame seeing the others of its run."""
    drop_path: float
    """Chance that a clip passes by a residual of the last layer in training; it rises linearly from 0 in the first."""
    seed: int
    """Of the modules that have no weights to start from."""

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            value, allowed = getattr(self, name), get_args(kind)
            if value not in allowed:
                raise InputError(f"a STAN's {name} is {value!r}; set one of {', '.join(allowed)}")
        for name, least in (("num_layers", 1), ("skipped_layers", 0), ("interval", 1), ("context_frames", 1)):
            if getattr(self, name) < least:
                raise InputError(f"a STAN's {name} is {getattr(self, name)}; set {least} or more")
        if self.context_frames > self.max_frames:
            raise InputError(
                f"a STAN's context_frames is {self.context_frames} and its max_frames {self.max_frames}; set "
                "context_frames to that or fewer"
            )
        if self.temporal == "joint" and self.class_token == "frame":
            raise InputError(
                "a STAN's temporal is 'joint', which attends to all tokens of a clip beside one class token, and its "
                "class_token is 'frame'; set class_token: clip"
            )
        if not 0 <= self.drop_path < 1:
            raise InputError(f"a STAN's drop_path is {self.drop_path}; set 0 or more and less than 1")

    def aligned_layers(self, depth: int) -> list[int]:
        """The tower's layers beside the branch's, from 0: K numbers, rising.

        Raises:
            InputError: a tower of `depth` layers has not as many.

        Example:
            4 layers at an interval of 2, none skipped, beside 12: 5, 7, 9 and 11.
        """
        top = depth - 1 - self.skipped_layers
        first = top - (self.num_layers - 1) * self.interval
        if first < 0:
            raise InputError(
                f"a STAN of num_layers {self.num_layers} at interval {self.interval} with skipped_layers "
                f"{self.skipped_layers} needs a tower of {depth - first} layers and this one has {depth}; set fewer"
            )
        return list(range(first, top + 1, self.interval))

    def read_layers(self, depth: int) -> list[int]:
        """The tower's layers that the branch's first, second, … layer reads; one alone for a posterior."""
        aligned = self.aligned_layers(depth)
        if self.structure == "branch":
            return aligned
        return aligned[-1:] * (self.num_layers if self.structure == "last_level_branch" else 1)
