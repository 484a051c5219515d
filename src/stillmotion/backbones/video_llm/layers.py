"""The names of a language model's layers: `before_llm`, `layer:1` … `layer:L`, and `last`, which is `layer:L`."""

from collections.abc import Sequence

from stillmotion.errors import InputError


def layer_names(num_layers: int) -> list[str]:
    """All names, by their index."""
    return ["before_llm", *(f"layer:{index}" for index in range(1, num_layers + 1))]


def layer_index(name: str, num_layers: int) -> int:
    """The index of a layer among `num_layers` + 1 hidden states.

    Raises:
        InputError: the model has no such layer.
    """
    names = layer_names(num_layers)
    if name == "last":
        return num_layers
    if name in names:
        return names.index(name)
    raise InputError(
        f"params.yaml: layer {name!r} is none of this model's; set before_llm, layer:1 to {names[-1]}, or last"
    )


def kept_layers(names: Sequence[str] | str, num_layers: int) -> list[str]:
    """The layers that `layers` of params names, one name each: `all`, or some.

    Raises:
        InputError: one is unknown, or stands there under both its names.
    """
    if isinstance(names, str):
        return layer_names(num_layers)
    indices = [layer_index(name, num_layers) for name in names]
    if len(set(indices)) < len(indices):
        raise InputError(f"params.yaml: layers names one twice, as last is layer:{num_layers}; name each once")
    return list(names)


def kept_row(name: str, kept: Sequence[str], num_layers: int) -> int:
    """The row of a layer among those that are kept.

    Raises:
        InputError: the model has no such layer, or it is not kept.
    """
    indices = [layer_index(each, num_layers) for each in kept]
    index = layer_index(name, num_layers)
    if index not in indices:
        raise InputError(
            f"params.yaml: layer {name!r} is not kept; add it to layers, or take one of: {', '.join(kept)}"
        )
    return indices.index(index)
