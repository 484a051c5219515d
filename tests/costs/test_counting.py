import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stillmotion.costs.counting import count_step

FLOAT = 4  # bytes


def linear(inputs, outputs, device="meta"):
    return torch.nn.Linear(inputs, outputs, bias=False, device=device)


def test_the_flops_and_bytes_of_a_linear_layer_are_worked_by_hand():
    layer = linear(100, 200)
    counted = count_step(lambda: layer(torch.zeros(3, 100, device="meta")).sum(), layer)
    assert counted.forward_flops == counted.backward_flops == 2 * 3 * 100 * 200
    assert counted.parameter_bytes == FLOAT * 100 * 200
    assert counted.optimizer_bytes == 2 * FLOAT * 100 * 200
    # The moment is the end of the backward pass: the weight's gradient is made from the input and the output's
    # gradient, which is the loss's own, one number repeated; the loss is still there too.
    assert counted.gradient_bytes == FLOAT * 100 * 200
    assert counted.activation_bytes == FLOAT * (3 * 100 + 1 + 1)
    assert counted.peak_bytes == FLOAT * (4 * 100 * 200 + 3 * 100 + 2)


def test_at_a_peak_in_the_forward_pass_there_are_no_gradients_yet():
    layer = linear(2, 3)
    # Input and output, and the loss where the output is still held.
    counted = count_step(lambda: layer(torch.zeros(1000, 2, device="meta")).sum(), layer)
    assert counted.gradient_bytes == 0
    assert counted.activation_bytes == FLOAT * (1000 * 2 + 1000 * 3 + 1)


def test_of_a_frozen_layer_nothing_is_kept():
    # Wide in the middle: what the upper layer keeps for its gradient is what counts.
    model = torch.nn.Sequential(linear(10, 10), linear(10, 4000), linear(4000, 1))
    free = count_step(lambda: model(torch.zeros(50, 10, device="meta")).sum(), model)
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    frozen = count_step(lambda: model(torch.zeros(50, 10, device="meta")).sum(), model)
    assert frozen.optimizer_bytes == 2 * FLOAT * 4000
    assert free.optimizer_bytes - frozen.optimizer_bytes == 2 * FLOAT * (10 * 10 + 10 * 4000)
    assert frozen.backward_flops == 2 * 50 * 4000
    assert frozen.parameter_bytes == free.parameter_bytes
    assert frozen.activation_bytes < free.activation_bytes


def test_buffers_count_as_parameters_that_are_not_trained():
    norm = torch.nn.BatchNorm1d(6, device="meta")
    counted = count_step(lambda: norm(torch.zeros(2, 6, device="meta")).sum(), norm)
    assert counted.parameter_bytes == FLOAT * 4 * 6 + 8  # weight, bias, mean, variance; the number of batches
    assert counted.optimizer_bytes == 2 * FLOAT * 2 * 6


def test_memory_that_is_let_go_is_counted_no_more():
    layer = linear(1, 1)

    def loss_of(times):
        for _ in range(times):
            torch.zeros(500, device="meta")
        return layer(torch.zeros(1, 1, device="meta")).sum()

    once, often = (count_step(lambda times=times: loss_of(times), layer).activation_bytes for times in (1, 9))
    assert once == often == FLOAT * 500


def test_the_gradients_of_an_earlier_step_are_not_taken_for_those_of_this_one():
    layer = linear(5, 5, "cpu")

    def loss_of():
        return layer(torch.ones(1, 5)).sum()

    loss_of().backward()
    first = count_step(loss_of, layer)
    assert layer.weight.grad is None
    assert count_step(loss_of, layer) == first


def attention_and_norm(device):
    # What a training step consists of: batched products, attention in both passes, a convolution, a norm.
    model = torch.nn.ModuleDict(
        {
            "conv": torch.nn.Conv2d(3, 16, 4, 4, device=device),
            "norm": torch.nn.LayerNorm(16, device=device),
            "out": torch.nn.Linear(16, 5, device=device),
        }
    )

    def loss_of():
        tokens = model["norm"](model["conv"](torch.ones(2, 3, 16, 16, device=device)).flatten(2).mT)
        heads = tokens.unflatten(2, (2, 8)).transpose(1, 2)
        mixed = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
        logits = model["out"](mixed.transpose(1, 2).flatten(2)).mean(1)
        return (logits @ logits.mT).logsumexp(1).sum()

    return model, loss_of


def test_flops_are_those_of_torchs_own_counter():
    model, loss_of = attention_and_norm("cpu")
    counted = count_step(loss_of, model)
    with FlopCounterMode(display=False) as forward:
        loss = loss_of()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    assert counted.forward_flops == forward.get_total_flops() > 0
    assert counted.backward_flops == backward.get_total_flops() > 0


@pytest.mark.parametrize("count", [0, 3])
def test_a_row_holds_mebibytes_that_add_up(count):
    layer = linear(1024, 1024 * (count + 1))
    row = count_step(lambda: layer(torch.zeros(1, 1024, device="meta")).sum(), layer).row()
    assert row["peak_memory_mib"] == pytest.approx(sum(row["peak_memory_parts_mib"].values()), abs=0.2)
    assert row["peak_memory_parts_mib"]["parameters"] == 4 * (count + 1)
    assert row["peak_memory_parts_mib"]["optimizer"] == 8 * (count + 1)
    assert row["forward_flops"] == 2 * 1024 * 1024 * (count + 1)
