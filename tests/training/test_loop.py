import pytest
import torch

from stillmotion.io.weights import load_tensors
from stillmotion.memo import Memo
from stillmotion.training.loop import FitSettings, fit, parameter_groups

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

    def __init__(self, killed_at=None):
        self.model = Model()
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
            SETTINGS,
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


@pytest.mark.parametrize("killed_after", [[1], [5], [7], [19], [3, 4, 9]])
def test_a_killed_training_goes_on_and_ends_with_the_same_bits(tmp_path, at_every_step, killed_after):
    whole = Training()
    expected = whole.run(Memo(None))
    steps = []
    for count in killed_after:
        killed = Training(killed_at=count)
        with pytest.raises(Killed):
            killed.run(Memo(tmp_path))
        steps += killed.steps
    resumed = Training()
    fitted = resumed.run(Memo(tmp_path))
    assert steps + resumed.steps == whole.steps  # nothing is done twice, nothing left out
    assert same(fitted.best, expected.best)
    assert fitted.best_epoch == expected.best_epoch
    assert fitted.history == expected.history
    assert same(resumed.model.state_dict(), whole.model.state_dict())


def test_the_checkpoint_itself_is_the_same_bytes_however_often_the_training_was_killed(tmp_path, at_every_step):
    Training().run(Memo(tmp_path / "whole"))
    with pytest.raises(Killed):
        Training(killed_at=8).run(Memo(tmp_path / "killed"))
    Training().run(Memo(tmp_path / "killed"))
    (whole,), (killed,) = ([p for p in (tmp_path / name).rglob("*") if p.is_file()] for name in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()


def test_checkpoints_are_seconds_apart_and_one_stands_at_the_end(tmp_path):
    with pytest.raises(Killed):
        Training(killed_at=12).run(Memo(tmp_path))
    assert not list(tmp_path.rglob("*.safetensors"))  # 12 steps take no 30 s
    Training().run(Memo(tmp_path))
    (path,) = tmp_path.rglob("*.safetensors")
    assert load_tensors(path)[1]["step"] == 20


def test_a_finished_training_is_not_repeated(tmp_path):
    expected = Training().run(Memo(tmp_path))
    again = Training(killed_at=0)
    fitted = again.run(Memo(tmp_path))
    assert again.steps == []
    assert same(fitted.best, expected.best)
    assert fitted.history == expected.history


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
