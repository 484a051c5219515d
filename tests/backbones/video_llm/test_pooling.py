import pytest
import torch

from stillmotion.backbones.video_llm.layers import kept_layers, kept_row, layer_index, layer_names
from stillmotion.backbones.video_llm.pooling import States, pool
from stillmotion.errors import InputError

POOLINGS = ["first", "max", "mean", "sum", "last_token"]
STATES = States(
    torch.tensor([[[1.0, -1.0], [2.0, -2.0], [6.0, 0.0]], [[0.0, 5.0], [0.0, 1.0], [3.0, 0.0]]]),
    torch.tensor([[9.0, 9.0], [8.0, 7.0]]),
)


def test_each_pooling_of_each_layer_by_hand():
    assert pool(STATES, POOLINGS).tolist() == [
        [[1.0, -1.0], [6.0, 0.0], [3.0, -1.0], [9.0, -3.0], [9.0, 9.0]],
        [[0.0, 5.0], [3.0, 5.0], [1.0, 2.0], [3.0, 6.0], [8.0, 7.0]],
    ]


def test_layers_and_poolings_come_in_the_order_asked_for():
    assert pool(STATES, ["last_token", "first"], [1, 0]).tolist() == [
        [[8.0, 7.0], [0.0, 5.0]],
        [[9.0, 9.0], [1.0, -1.0]],
    ]


def test_where_no_token_counts_the_last_one_stands_for_all():
    empty = States(torch.zeros(2, 0, 2), STATES.last_LD)
    assert (pool(empty, POOLINGS) == STATES.last_LD[:, None]).all()


def test_half_precision_is_pooled_in_single():
    large = torch.full((1, 3000, 1), 1.0, dtype=torch.bfloat16)  # beside 256 its steps are 2
    pooled = pool(States(large, large[:, 0]), ["sum"])
    assert (pooled.dtype, pooled.item()) == (torch.float32, 3000.0)


def test_layers_have_their_names_and_the_last_has_two():
    assert layer_names(3) == ["before_llm", "layer:1", "layer:2", "layer:3"]
    assert [layer_index(name, 3) for name in (*layer_names(3), "last")] == [0, 1, 2, 3, 3]
    assert kept_layers("all", 2) == ["before_llm", "layer:1", "layer:2"]
    assert kept_layers(["last", "layer:1"], 2) == ["last", "layer:1"]
    assert kept_row("layer:2", ["last", "layer:1"], 2) == 0


@pytest.mark.parametrize("name", ["layer:0", "layer:4", "layer:-1", "first", ""])
def test_a_layer_that_there_is_not_is_told(name):
    with pytest.raises(InputError, match="set before_llm, layer:1 to layer:3, or last"):
        layer_index(name, 3)
