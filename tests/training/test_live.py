import json
import sys

import pytest
import torch

from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.training.loop import FitSettings, fit

SETTINGS = FitSettings(
    epochs=4, steps_per_epoch=5, learning_rate=0.05, weight_decay=0.1, warmup_fraction=0.25, gradient_clip=1.0
)
ALONE = Memo(None)


class Killed(Exception):
    pass


def train(memo=ALONE, killed_at=None):
    """Twenty steps of a small training, or as many as it is killed after."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)

    def loss_at(epoch, step):
        if 5 * epoch + step == killed_at:
            raise Killed
        return (model(torch.full((2, 4), 1.0 + step)) - epoch).square().mean()

    def score():
        return model.bias.sum().item()

    return fit(model, loss_at, SETTINGS, label="training", memo=memo, key={"data": 1}, score=score)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """The folder of the curves of `Training` in a stage of dvc."""
    pytest.importorskip("dvclive", reason="no dvclive: pip install 'stillmotion[live]'")
    monkeypatch.setenv("STILLMOTION_LIVE", str(tmp_path / "live"))
    monkeypatch.setenv("DVC_STAGE", "finetune@a b")
    return tmp_path / "live" / "finetune@a_b" / "training"


def curve(folder, name):
    lines = (folder / "plots" / "metrics" / f"{name}.tsv").read_text(encoding="utf-8").split("\n")
    assert lines[0] == f"step\t{name}"
    return [(int(step), float(value)) for step, value in (line.split("\t") for line in lines[1:] if line)]


def test_each_epoch_is_logged_as_the_history_has_it_and_no_bit_of_the_training_changes(watched, monkeypatch, capfd):
    with monkeypatch.context() as unset:
        unset.delenv("STILLMOTION_LIVE")
        expected = train()
    assert not watched.exists()
    fitted = train()
    assert fitted.history == expected.history
    assert all(torch.equal(fitted.best[name], value) for name, value in expected.best.items())
    for name in ("loss", "score", "learning_rate"):
        assert curve(watched, name) == [(row["epoch"], row[name]) for row in expected.history]
    assert json.loads((watched / "metrics.json").read_text(encoding="utf-8"))["step"] == 3
    assert (watched / "dvc.yaml").exists()
    assert capfd.readouterr() == ("", "")


def test_a_training_that_goes_on_shows_its_earlier_epochs_too(watched, tmp_path, monkeypatch):
    monkeypatch.setenv("STILLMOTION_CHECKPOINT_SECONDS", "0")
    with pytest.raises(Killed):
        train(Memo(tmp_path / "memo"), killed_at=12)
    assert [step for step, _ in curve(watched, "loss")] == [0, 1]
    train(Memo(tmp_path / "memo"))
    assert [step for step, _ in curve(watched, "loss")] == [0, 1, 2, 3]


def test_a_folder_that_cannot_be_written_is_a_warning(watched, caplog):
    watched.parent.parent.write_text("a file")
    train()
    assert "set STILLMOTION_LIVE to another folder, or unset it" in caplog.text


def test_without_the_extra_a_line_says_how_to_have_it(watched, monkeypatch):
    monkeypatch.setitem(sys.modules, "dvclive", None)
    with pytest.raises(InputError, match=r"^STILLMOTION_LIVE needs dvclive; pip install 'stillmotion\[live\]', or"):
        train()
