from dataclasses import replace

import pytest
import torch

from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.io.weights import load_tensors
from stillmotion.training.loop import FitSettings, fit, parameter_groups
from stillmotion.training.processes import Processes

SETTINGS = FitSettings(
    epochs=4, steps_per_epoch=5, learning_rate=0.05, weight_decay=0.1, warmup_fraction=0.25, gradient_clip=1.0
)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.Linear(8, 3)
        )
        self.log_scale = torch.nn.Parameter(torch.tensor(0.5))
        self.frozen = torch.nn.Linear(3, 3).requires_grad_(False)

    def forward(self, x):
        return self.frozen(self.layers(x)) * self.log_scale.exp()


class Killed(Exception):
    pass


class Training:
    """A training that may be killed, and that counts its steps."""

    def __init__(self, killed_at=None, optimizer="adamw"):
        self.model = Model()
        self.settings = replace(SETTINGS, optimizer=optimizer)
        self.killed_at = killed_at
        self.steps = []

    def loss_at(self, epoch, step):
        if len(self.steps) == self.killed_at:
            raise Killed
        self.steps.append((epoch, step))
        generator = torch.Generator().manual_seed(1000 * epoch + step)
        x = torch.randn(6, 4, generator=generator)
        return (self.model(x) - x[:, :3].sin()).square().mean()

    def score(self):
        """Best in the middle, so that the best weights are not the last ones."""
        return -abs(self.model.log_scale.item() - 0.35)

    def run(self, memo, key=None):
        return fit(
            self.model,
            self.loss_at,
            self.settings,
            label="training",
            memo=memo,
            key={"data": 1} if key is None else key,
            score=self.score,
        )


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def at_every_step(monkeypatch):
    monkeypatch.setenv("STILLMOTION_CHECKPOINT_SECONDS", "0")


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("killed_after", [[1], [5], [7], [19], [3, 4, 9]])
def test_a_killed_training_goes_on_and_ends_with_the_same_bits(tmp_path, at_every_step, killed_after, optimizer):
    whole = Training(optimizer=optimizer)
    expected = whole.run(Memo(None))
    steps = []
    for count in killed_after:
        killed = Training(killed_at=count, optimizer=optimizer)
        with pytest.raises(Killed):
            killed.run(Memo(tmp_path))
        steps += killed.steps
    resumed = Training(optimizer=optimizer)
    fitted = resumed.run(Memo(tmp_path))
    assert steps + resumed.steps == whole.steps  # nothing is done twice, nothing left out
    assert same(fitted.best, expected.best)
    assert fitted.best_epoch == expected.best_epoch
    assert fitted.history == expected.history
    assert same(resumed.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_checkpoint_itself_is_the_same_bytes_however_often_the_training_was_killed(
    tmp_path, at_every_step, optimizer
):
    Training(optimizer=optimizer).run(Memo(tmp_path / "whole"))
    with pytest.raises(Killed):
        Training(killed_at=8, optimizer=optimizer).run(Memo(tmp_path / "killed"))
    Training(optimizer=optimizer).run(Memo(tmp_path / "killed"))
    (whole,), (killed,) = ([p for p in (tmp_path / name).rglob("*") if p.is_file()] for name in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()


def test_checkpoints_are_seconds_apart_and_one_stands_at_the_end(tmp_path):
    with pytest.raises(Killed):
        Training(killed_at=12).run(Memo(tmp_path))
    assert not list(tmp_path.rglob("*.safetensors"))  # 12 steps take no 30 s
    Training().run(Memo(tmp_path))
    (path,) = tmp_path.rglob("*.safetensors")
    assert load_tensors(path)[1]["step"] == 20


def kinds(path):
    """Of the tensors in the only checkpoint below a folder: what is before their names."""
    (path,) = path.rglob("*.safetensors")
    return {name.split("/")[0] for name in load_tensors(path)[0]}


def test_of_a_finished_training_the_best_weights_alone_are_kept(tmp_path, at_every_step):
    with pytest.raises(Killed):
        Training(killed_at=12).run(Memo(tmp_path))
    assert kinds(tmp_path) == {"best", "model", "exp_avg", "exp_avg_sq", "step"}
    Training().run(Memo(tmp_path))
    assert kinds(tmp_path) == {"best"}


def test_without_a_score_a_checkpoint_has_no_second_weights(tmp_path, at_every_step):
    def run(killed_at):
        training = Training(killed_at)
        return fit(training.model, training.loss_at, SETTINGS, label="x", memo=Memo(tmp_path), key={}), training

    with pytest.raises(Killed):
        run(12)
    assert kinds(tmp_path) == {"model", "exp_avg", "exp_avg_sq", "step"}
    fitted, training = run(None)
    assert kinds(tmp_path) == {"best"}
    assert same(fitted.best, {name: value for name, value in training.model.named_parameters() if name in fitted.best})
    assert same(run(0)[0].best, fitted.best)


def test_a_finished_training_is_not_repeated(tmp_path):
    expected = Training().run(Memo(tmp_path))
    again = Training(killed_at=0)
    fitted = again.run(Memo(tmp_path))
    assert again.steps == []
    assert same(fitted.best, expected.best)
    assert fitted.history == expected.history


def test_a_checkpoint_that_a_bad_disk_changed_is_told_and_the_training_begins_anew(tmp_path, spoil, caplog):
    expected = Training().run(Memo(tmp_path))
    assert spoil(tmp_path) == 1
    again = Training()
    fitted = again.run(Memo(tmp_path))
    assert len(again.steps) == 20
    assert same(fitted.best, expected.best)
    assert fitted.history == expected.history
    assert caplog.text.count("not the bytes that were stored there") == 1


def test_another_key_is_another_training(tmp_path):
    Training().run(Memo(tmp_path), {"data": 1})
    other = Training()
    other.run(Memo(tmp_path), {"data": 2})
    assert len(other.steps) == 20


def test_the_steps_are_those_of_torch_s_adamw_under_its_one_cycle_policy():
    training = Training()
    training.run(Memo(None))
    oracle = Training()
    trained = [value for value in oracle.model.parameters() if value.requires_grad]
    groups = [
        {"params": [value for value in trained if value.ndim == 2], "weight_decay": 0.1},
        {"params": [value for value in trained if value.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.05, betas=(0.9, 0.98), fused=False, foreach=False)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.05, total_steps=20, pct_start=0.25, cycle_momentum=False
    )
    for number in range(20):
        optimizer.zero_grad()
        oracle.loss_at(*divmod(number, 5)).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if number < 19:
            schedule.step()
    for name, value in training.model.state_dict().items():
        torch.testing.assert_close(value, oracle.model.state_dict()[name], atol=1e-5, rtol=1e-4, msg=name)


def test_sgd_has_a_momentum_of_0_9_and_decays_matrices_through_it():
    model = torch.nn.Linear(2, 1)
    weight, bias = [3.0, -1.0], [0.5]
    with torch.no_grad():
        model.weight.copy_(torch.tensor([weight]))
        model.bias.copy_(torch.tensor(bias))
    settings = FitSettings(
        2, 1, learning_rate=0.1, weight_decay=0.2, warmup_fraction=0.5, gradient_clip=100.0, optimizer="sgd"
    )
    fit(
        model, lambda epoch, step: model(torch.tensor([[1.0, 2.0]])).sum(), settings, label="x", memo=Memo(None), key={}
    )
    # The gradient is always (1, 2) and 1. Sutskever et al. 2013 as torch has it: v = 0.9 v + g + 0.2 w, w -= rate · v,
    # with the rates of a cycle of two steps, 0.1 at its peak and a 250,000th of it at its end.
    velocity_w, velocity_b = [0.0, 0.0], 0.0
    for rate in (0.1, 0.1 / 250_000):
        velocity_w = [0.9 * v + g + 0.2 * w for v, g, w in zip(velocity_w, (1.0, 2.0), weight, strict=True)]
        velocity_b = 0.9 * velocity_b + 1.0
        weight = [w - rate * v for w, v in zip(weight, velocity_w, strict=True)]
        bias = [bias[0] - rate * velocity_b]
    torch.testing.assert_close(model.weight.tolist()[0], weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.bias.tolist(), bias, atol=1e-6, rtol=0)


class Second(Processes):
    """The second of two processes that have the same gradients."""

    count = 2
    rank = 1

    def __init__(self, begun=None):
        super().__init__()
        object.__setattr__(self, "begun", begun)

    def from_first(self, value):
        assert value is None
        return self.begun

    def sum_gradients(self, parameters):
        for value in parameters:
            if value.grad is not None:
                value.grad *= 2


def test_gradients_are_summed_over_processes_before_they_are_clipped():
    model = torch.nn.Linear(2, 1, bias=False)
    settings = FitSettings(1, 1, learning_rate=0.1, weight_decay=0.0, warmup_fraction=0.0, gradient_clip=90.0)

    def loss_at(epoch, step):
        return model(torch.tensor([[30.0, 40.0]])).sum()

    fit(model, loss_at, settings, label="x", memo=Memo(None), key={}, processes=Second())
    # 30 and 40 from each, of norm 100: clipped to 90
    assert model.weight.grad.tolist() == [[pytest.approx(54), pytest.approx(72)]]


def test_only_the_first_process_uses_the_memo_and_the_others_begin_where_it_does(tmp_path, at_every_step):
    with pytest.raises(Killed):
        Training(killed_at=8).run(Memo(tmp_path / "first"))
    (path,) = (tmp_path / "first").rglob("*.safetensors")
    training = Training()
    fit(
        training.model,
        training.loss_at,
        SETTINGS,
        label="x",
        memo=Memo(tmp_path / "second"),
        key={},
        processes=Second(load_tensors(path)),
    )
    assert training.steps == [divmod(step, 5) for step in range(8, 20)]
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize(("processes", "error"), [(Processes(), InputError), (Second(), SystemExit)])
def test_a_loss_that_is_not_finite_ends_all_processes_and_the_first_one_tells_it(processes, error):
    model = torch.nn.Linear(1, 1)
    with pytest.raises(error) as caught:
        fit(
            model,
            lambda epoch, step: model(torch.tensor([[1.0]])).sum() / (1 - step),
            SETTINGS,
            label="training",
            memo=Memo(None),
            key={},
            processes=processes,
        )
    if error is InputError:
        assert str(caught.value).startswith("params.yaml: the loss is ")
        assert str(caught.value).endswith(" at step 1 of training; lower learning_rate")
    else:
        assert caught.value.code == 0


def test_weights_that_a_last_step_makes_no_numbers_are_told_and_neither_scored_nor_saved(tmp_path):
    # The root has no slope at zero: its loss is 0, and its gradient no number.
    model, scores = torch.nn.Linear(1, 1, bias=False), []
    torch.nn.init.zeros_(model.weight)
    with pytest.raises(InputError) as caught:
        fit(
            model,
            lambda epoch, step: model.weight.square().sum().sqrt(),
            replace(SETTINGS, epochs=1, steps_per_epoch=1),
            label="training",
            memo=Memo(tmp_path),
            key={},
            score=lambda: scores.append(1.0) or 1.0,
        )
    assert str(caught.value) == "params.yaml: weights are no numbers after step 0 of training; lower learning_rate"
    assert scores == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_history_has_a_row_an_epoch_with_the_mean_loss_and_the_last_rate():
    training = Training()
    losses = []

    def loss_at(epoch, step):
        loss = training.loss_at(epoch, step)
        losses.append(loss.item())
        return loss

    history = fit(training.model, loss_at, SETTINGS, label="x", memo=Memo(None), key={}).history
    assert [row["epoch"] for row in history] == [0, 1, 2, 3]
    means = [sum(losses[first : first + 5]) / 5 for first in (0, 5, 10, 15)]
    assert [row["loss"] for row in history] == pytest.approx(means)
    # 20 steps, a quarter of them rising: the peak is at step 4, the end of the first epoch
    assert history[0]["learning_rate"] == pytest.approx(0.05)
    assert history[3]["learning_rate"] == pytest.approx(0.05 / 250_000)
    assert "score" not in history[0]


@pytest.mark.parametrize(("scores", "best_epoch"), [([1, 3, 3, 2], 1), ([5, 5, 5, 5], 0), ([1, 2, 3, 4], 3)])
def test_the_best_epoch_is_the_first_of_equals_and_its_weights_are_kept(scores, best_epoch):
    training = Training()
    seen = []

    def score():
        seen.append({name: value.clone() for name, value in training.model.named_parameters()})
        return scores[len(seen) - 1]

    fitted = fit(training.model, training.loss_at, SETTINGS, label="x", memo=Memo(None), key={}, score=score)
    assert fitted.best_epoch == best_epoch
    assert [row["score"] for row in fitted.history] == scores
    trained = {name for name, value in training.model.named_parameters() if value.requires_grad}
    assert same(fitted.best, {name: value for name, value in seen[best_epoch].items() if name in trained})


def test_without_a_score_the_last_epoch_is_kept():
    training = Training()
    fitted = fit(training.model, training.loss_at, SETTINGS, label="x", memo=Memo(None), key={})
    assert fitted.best_epoch == 3
    assert all(torch.equal(value, training.model.state_dict()[name]) for name, value in fitted.best.items())


def test_only_matrices_decay():
    model = Model()
    decayed, plain = parameter_groups(model, 0.3)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    names = {id(value): name for name, value in model.named_parameters()}
    assert {names[id(value)] for value in decayed["params"]} == {"layers.0.weight", "layers.3.weight"}
    assert {names[id(value)] for value in plain["params"]} == {
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
        "layers.3.bias",
        "log_scale",
    }


def test_decay_is_worked_by_hand_on_a_step_without_gradient():
    model = Model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = FitSettings(1, 1, learning_rate=0.1, weight_decay=0.5, warmup_fraction=0.0, gradient_clip=1.0)

    def loss_at(epoch, step):
        return sum(value.sum() * 0.0 for value in model.parameters())

    fit(model, loss_at, settings, label="x", memo=Memo(None), key={})
    # Loshchilov & Hutter 2019: w · (1 - rate · decay), the rate of a single step being the peak
    torch.testing.assert_close(model.layers[0].weight, before["layers.0.weight"] * 0.95)
    assert torch.equal(model.layers[1].weight, before["layers.1.weight"])
    assert torch.equal(model.frozen.weight, before["frozen.weight"])


def test_parameters_with_a_factor_of_their_own_have_groups_of_their_own_and_decay_alike():
    model = Model()
    factors = {"layers.3.weight": 10.0, "layers.3.bias": 10.0, "log_scale": 1.0, "frozen.weight": 3.0}
    names = {id(value): name for name, value in model.named_parameters()}
    found = [
        (group["rate_factor"], group["weight_decay"], [names[id(value)] for value in group["params"]])
        for group in parameter_groups(model, 0.3, factors)
        if group["params"]
    ]
    assert found == [
        (1.0, 0.3, ["layers.0.weight"]),
        (1.0, 0.0, ["log_scale", "layers.0.bias", "layers.1.weight", "layers.1.bias"]),
        (10.0, 0.3, ["layers.3.weight"]),
        (10.0, 0.0, ["layers.3.bias"]),
    ]


def test_a_factor_multiplies_the_rate_of_its_parameters_at_each_step():
    """SGD without momentum's memory: the first step is the rate times the gradient, which is 1 everywhere."""
    model = Model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = FitSettings(
        1, 1, learning_rate=0.1, weight_decay=0.0, warmup_fraction=0.0, gradient_clip=1e9, optimizer="sgd"
    )
    settings = replace(settings, rate_factors={"layers.3.weight": 10.0})
    history = fit(
        model,
        lambda epoch, step: sum(value.sum() for value in model.parameters()),
        settings,
        label="x",
        memo=Memo(None),
        key={},
    ).history
    torch.testing.assert_close(model.layers[3].weight, before["layers.3.weight"] - 1.0)
    torch.testing.assert_close(model.layers[3].bias, before["layers.3.bias"] - 0.1)
    torch.testing.assert_close(model.layers[0].weight, before["layers.0.weight"] - 0.1)
    assert history[0]["learning_rate"] == pytest.approx(0.1)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_factor_of_1_changes_no_bit(optimizer):
    plain, named = Training(optimizer=optimizer), Training(optimizer=optimizer)
    named.settings = replace(named.settings, rate_factors={"layers.3.weight": 1.0, "layers.3.bias": 1.0})
    assert same(plain.run(Memo(None)).best, named.run(Memo(None)).best)
    assert same(plain.model.state_dict(), named.model.state_dict())


def test_a_killed_training_with_two_rates_goes_on_and_ends_with_the_same_bits(tmp_path, at_every_step):
    def training(killed_at=None):
        new = Training(killed_at=killed_at)
        new.settings = replace(new.settings, rate_factors={"layers.3.weight": 10.0, "log_scale": 0.5})
        return new

    expected = training().run(Memo(None))
    with pytest.raises(Killed):
        training(7).run(Memo(tmp_path))
    resumed = training()
    assert same(resumed.run(Memo(tmp_path)).best, expected.best)
    assert len(resumed.steps) == 13
    assert not same(expected.best, Training().run(Memo(None)).best)


def test_gradients_are_clipped_to_their_common_norm():
    model = torch.nn.Linear(2, 1, bias=False)
    norms = []
    settings = FitSettings(1, 1, learning_rate=0.1, weight_decay=0.0, warmup_fraction=0.0, gradient_clip=0.5)
    model.weight.register_post_accumulate_grad_hook(lambda value: norms.append(value.grad.norm().item()))
    fit(
        model,
        lambda epoch, step: model(torch.tensor([[30.0, 40.0]])).sum(),
        settings,
        label="x",
        memo=Memo(None),
        key={},
    )
    assert norms == [50.0]
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [[pytest.approx(0.3), pytest.approx(0.4)]]
