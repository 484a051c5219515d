import subprocess
import sys

import pytest
import torch

from stillmotion.costs.resources import count_parameters, measure_passes, measure_step

CPU = torch.device("cpu")


def test_the_flops_of_a_linear_layer_are_worked_by_hand():
    layer, x = torch.nn.Linear(5, 7), torch.randn(3, 5)
    cost = measure_step(lambda: layer(x).sum(), layer, CPU, repeats=1)
    # 3 × 7 outputs of 5 multiply-adds, 2 FLOPs each. Backward: the weight's gradient is as large a product; the
    # input has none.
    assert cost.forward_flops == 2 * 3 * 5 * 7
    assert cost.backward_flops == 2 * 3 * 5 * 7


def test_a_second_layer_also_sends_the_gradient_down():
    model = torch.nn.Sequential(torch.nn.Linear(5, 7, bias=False), torch.nn.Linear(7, 2))
    x = torch.randn(3, 5)
    cost = measure_step(lambda: model(x).sum(), model, CPU, repeats=1)
    first, second = 2 * 3 * 5 * 7, 2 * 3 * 7 * 2
    assert cost.forward_flops == first + second
    assert cost.backward_flops == first + 2 * second


def test_a_frozen_first_layer_costs_nothing_backward():
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 2))
    model[0].requires_grad_(False)
    x = torch.randn(3, 5)
    cost = measure_step(lambda: model(x).sum(), model, CPU, repeats=1)
    assert cost.backward_flops == 2 * 3 * 7 * 2


def test_parameters_are_counted_all_and_trained():
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 2))
    model[0].requires_grad_(False)
    assert count_parameters(model) == {"parameters": 5 * 7 + 7 + 7 * 2 + 2, "trainable_parameters": 7 * 2 + 2}


def test_measuring_trains_nothing():
    layer = torch.nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    measure_step(lambda: layer(torch.ones(1, 2)).sum(), layer, CPU, repeats=2)
    assert torch.equal(layer.weight, before)


MEMORY = """
import torch
from stillmotion.costs.resources import measure_step

layer = torch.nn.Linear(4, 4)

def loss_of():
    return (layer(torch.ones(1, 4)).sum() * torch.ones(16 * 2**20)).square().mean()

print(measure_step(loss_of, layer, torch.device("cpu"), repeats=1).peak_memory_mib)
"""


@pytest.mark.slow
def test_memory_holds_at_least_what_the_step_must_keep_and_not_what_the_process_held_before():
    # In a process of its own: what the operating system counts is the most that a process ever held.
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=120)
    assert 64 <= float(done.stdout) < 640  # 64 MiB of floats, kept for the backward pass, and some copies


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_row_of_the_metrics_file_names_the_rule_and_the_batch(repeats):
    layer = torch.nn.Linear(4, 4)
    calls = []

    def loss_of():
        calls.append(None)
        return layer(torch.ones(1, 4)).sum()

    row = measure_step(loss_of, layer, CPU, repeats=repeats).row(6, 8)
    assert len(calls) == repeats + 2  # one to warm up, one for the FLOPs
    assert row["forward_flops"] == 2 * 4 * 4
    assert row["flop_rule"].startswith("2 for each multiply-add")
    assert (row["batch_size"], row["num_frames"]) == (6, 8)
    assert row["seconds_a_step"] >= 0


def test_passes_are_run_with_gradients_and_then_without_and_leave_none():
    layer = torch.nn.Linear(4, 4)
    before = layer.weight.detach().clone()
    with_gradients = []

    def loss_of():
        with_gradients.append(torch.is_grad_enabled())
        assert layer.weight.grad is None
        return layer(torch.ones(1, 4)).sum()

    cost = measure_passes(loss_of, layer, CPU, repeats=2)
    assert with_gradients == [True] * 3 + [False] * 3  # one of each to warm up
    assert layer.weight.grad is None
    assert torch.equal(layer.weight, before)
    assert cost.forward_seconds > 0
    assert cost.peak_memory_mib >= 0


def test_the_median_leaves_the_slow_first_pass_out(monkeypatch):
    ticks = iter([0, 100, 100, 103, 103, 104, 104, 109] + [200, 250, 250, 250.5, 250.5, 251, 251, 251.5])
    monkeypatch.setattr("stillmotion.costs.resources.time.perf_counter", lambda: next(ticks))
    layer = torch.nn.Linear(2, 2)
    cost = measure_passes(lambda: layer(torch.ones(1, 2)).sum(), layer, CPU, repeats=3)
    assert (cost.forward_backward_seconds, cost.forward_seconds) == (3, 0.5)


@pytest.mark.slow
def test_memory_of_passes_holds_at_least_what_the_backward_pass_needs():
    program = MEMORY.replace("measure_step", "measure_passes")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert 64 <= float(done.stdout) < 640
