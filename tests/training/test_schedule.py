import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.training.schedule import one_cycle_cosine


def rates(total_steps, warmup_fraction, peak=0.01):
    return [
        one_cycle_cosine(step, total_steps=total_steps, peak=peak, warmup_fraction=warmup_fraction)
        for step in range(total_steps)
    ]


def torch_rates(total_steps, warmup_fraction, peak=0.01):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peak, total_steps=total_steps, pct_start=warmup_fraction, anneal_strategy="cos"
    )
    found = []
    for step in range(total_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step + 1 < total_steps:
            schedule.step()
    return found


@pytest.mark.parametrize("total_steps", [10, 37, 200])
@pytest.mark.parametrize("warmup_fraction", [0.15, 0.25, 0.3, 0.5, 0.9, 1.0])
def test_the_rates_are_those_of_torch_s_one_cycle_policy(total_steps, warmup_fraction):
    assert rates(total_steps, warmup_fraction) == pytest.approx(torch_rates(total_steps, warmup_fraction), rel=1e-9)


@pytest.mark.parametrize("total_steps", [1, 2, 5, 9])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.1])
def test_with_less_than_a_step_of_warmup_the_first_step_has_the_peak(total_steps, warmup_fraction):
    found = rates(total_steps, warmup_fraction)
    assert found[0] == 0.01
    assert found == sorted(found, reverse=True)
    if total_steps > 1:
        assert found[-1] == pytest.approx(0.01 / 250_000)


def test_a_warmup_of_one_step_has_the_peak_there_where_torch_divides_by_zero():
    assert rates(10, 0.1)[0] == 0.01


def test_a_short_cycle_is_worked_by_hand():
    # 5 steps, 3 of them (0, 1, 2) rise from 1/25 to 1 along a cosine, two fall to 1/250,000.
    expected = [0.04, (0.04 + 1) / 2, 1.0, (1 + 4e-6) / 2, 4e-6]
    assert rates(5, 0.6, peak=1.0) == pytest.approx(expected)


@given(st.integers(1, 300), st.floats(0, 1), st.floats(1e-7, 10))
def test_a_rate_is_always_between_the_lowest_and_the_peak(total_steps, warmup_fraction, peak):
    found = rates(total_steps, warmup_fraction, peak)
    assert min(found) >= peak / 250_000 * (1 - 1e-6)
    assert max(found) <= peak * (1 + 1e-12)
