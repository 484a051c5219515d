"""Shares of a batch, and fine-tunings of which several processes do a part: those run the stage as a command."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ruamel.yaml
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.config.environment import read_environment
from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.io.tables import read_json
from stillmotion.io.weights import load_tensors
from stillmotion.training import processes as module
from stillmotion.training.finetuning import FineTuning, finetune
from stillmotion.training.processes import ALONE, Processes, join_processes

ROOT = Path(__file__).resolve().parents[2]


class Fake:
    """What Fabric says of a process."""

    def __init__(self, rank, count):
        self.global_rank = rank
        self.world_size = count


class Sum(Fake):
    """Fabric's in-place sum over two processes: the other one has `other`."""

    def __init__(self, rank, other):
        super().__init__(rank, 2)
        self.other = other

    def all_reduce(self, value, reduce_op):
        assert reduce_op == "sum"
        value += self.other


@given(num_rows=st.integers(0, 50), count=st.integers(1, 9))
def test_shares_are_neighbours_that_make_up_the_batch_and_differ_by_one_at_most(num_rows, count):
    shares = [Processes(Fake(rank, count)).share(num_rows) for rank in range(count)]
    assert [row for share in shares for row in share] == list(range(num_rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_everything_is_one_s_own():
    rows = torch.randn(3, 2, requires_grad=True)
    assert ALONE.first
    assert ALONE.share(3) == range(3)
    assert torch.equal(ALONE.gather(rows, 3), rows)
    assert ALONE.own_once(rows) is rows
    assert ALONE.from_first("state") == "state"


def test_a_gathered_batch_passes_its_gradient_to_one_s_own_rows():
    own = torch.tensor([[3.0, 4.0]], requires_grad=True)
    processes = Processes(Sum(1, torch.tensor([[1.0, 2.0], [0.0, 0.0]])))
    whole = processes.gather(own, 2)
    assert whole.tolist() == [[1, 2], [3, 4]]
    (whole * torch.tensor([[1.0, 10.0], [100.0, 1000.0]])).sum().backward()
    assert own.grad.tolist() == [[100, 1000]]


def test_what_all_processes_have_passes_its_gradient_in_the_first_alone():
    value = torch.tensor(2.0, requires_grad=True)
    assert Processes(Fake(0, 2)).own_once(value).requires_grad
    assert not Processes(Fake(1, 2)).own_once(value).requires_grad


def test_a_parameter_has_the_sum_of_the_gradients_and_none_where_no_process_has_one():
    both, own, others, none = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 1), 1, (1, 2), 3))
    both.grad, own.grad = torch.tensor([[1.0], [2.0]]), torch.tensor([3.0])
    # First, which of the four have a gradient in the other process; then those, the missing ones as zeros.
    other = torch.tensor([1.0, 0, 1, 0] + [10, 20] + [0] + [30, 40] + [0, 0, 0])
    Processes(Sum(0, other)).sum_gradients([both, own, others, none])
    assert both.grad.tolist() == [[11], [22]]
    assert own.grad.tolist() == [3]
    assert others.grad.tolist() == [[30, 40]]
    assert none.grad is None


def test_the_number_of_devices_is_the_setting_s_or_torchrun_s_or_one(monkeypatch):
    for name in ("STILLMOTION_DEVICES", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert read_environment().devices == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert read_environment().devices == 3
    monkeypatch.setenv("STILLMOTION_DEVICES", "2")
    assert read_environment().devices == 2
    monkeypatch.setenv("STILLMOTION_DEVICES", "0")
    with pytest.raises(InputError, match="^environment variable STILLMOTION_DEVICES is '0'; set it to a whole number"):
        read_environment()


@pytest.fixture
def settings(one_thread, monkeypatch):
    """Of a process that nobody else has started; what it changes in torch is put back."""
    for name in ("STILLMOTION_DEVICES", "LOCAL_WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    yield replace(read_environment(), device="cpu")
    torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
    torch.set_flush_denormal(False)


def test_another_number_than_torchrun_s_is_refused(settings, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="STILLMOTION_DEVICES is 4 and torchrun started 2 processes; unset it"):
        join_processes(replace(settings, devices=4), "fp32", 3)


@pytest.mark.parametrize(
    ("device", "line"),
    [
        ("cuda:1", "STILLMOTION_DEVICE is cuda:1 and there are 4 devices to be used; set cuda, and CUDA_VISIBLE_DEV"),
        ("cuda", "STILLMOTION_DEVICES is 4 and there are 2 GPUs; set that many or fewer, or STILLMOTION_DEVICE to cpu"),
    ],
)
def test_gpus_that_are_not_there_are_refused(settings, monkeypatch, device, line):
    monkeypatch.setattr(module, "prepare_torch", lambda environment, _threads: torch.device(environment.device))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=line):
        join_processes(replace(settings, device=device, devices=4), "fp32", 3)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_in_bf16_the_model_multiplies_in_bf16_and_all_else_stays_in_fp32(
    corpus, new_backbone, new_recipe, settings, precision, dtype
):
    processes = join_processes(settings, precision, 3)
    assert torch.get_num_threads() == 3
    backbone = new_backbone()
    seen, updated = set(), set()
    backbone.model.visual.transformer.resblocks[0].mlp.c_fc.register_forward_hook(
        lambda module, inputs, output: seen.add(output.dtype)
    )
    for value in backbone.parameters():
        value.register_hook(lambda gradient: updated.add(gradient.dtype))
    recipe = new_recipe(micro_batch_size=4, epochs=1)
    fitted = finetune(
        FineTuning(backbone, corpus.frames, corpus.train, corpus.validation, recipe, processes),
        memo=Memo(None),
        key={},
    )
    assert seen == {dtype}
    assert updated == {torch.float32}
    assert {value.dtype for value in fitted.best.values()} == {torch.float32}
    exact = finetune(FineTuning(new_backbone(), corpus.frames, corpus.train, [], recipe), memo=Memo(None), key={})
    assert fitted.history[0]["loss"] == pytest.approx(exact.history[0]["loss"], rel=0.01)


class Workplace:
    """A repository root in which src/finetune.py runs."""

    def __init__(self, root, corpus, backbone, recipe):
        self.root = root
        self.memo = root / "memo"
        system = dict.fromkeys(("expansion", "pretraining", "recipe", "seed"))
        backbone.save(root / "backbone", {"system": system | {"model": "m", "base": "m"}})
        (root / "raw").symlink_to(corpus.raw)
        (root / "frames").symlink_to(corpus.frames_folder)
        yaml = ruamel.yaml.YAML()
        params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["recipes"] |= {"small": recipe.model_dump(exclude={"seed"})}
        params["threads"] = 1
        yaml.dump(params, root / "params.yaml")

    def start(self, *launcher, output, **changes):
        given = {name: value for name, value in os.environ.items() if not name.startswith("STILLMOTION_")}
        changes = {
            "STILLMOTION_MEMO": str(self.memo),
            "STILLMOTION_DEVICE": "cpu",
        } | changes
        options = ["--recipe", "small", "--seed", "0", "--backbone", "backbone", "--raw", "raw", "--frames", "frames"]
        return subprocess.Popen(
            [*launcher, ROOT / "src" / "finetune.py", *options, "--output", output, "--plot", f"{output}.json"],
            cwd=self.root,
            env=given | changes,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def steps_done(self):
        for path in self.memo.rglob("[!.]*.safetensors"):
            return load_tensors(path)[1]["step"]
        return 0


def finished(process):
    _, log = process.communicate(timeout=200)
    assert process.returncode == 0, log
    return log


@pytest.mark.slow
def test_two_processes_compute_what_one_computes_also_when_killed_and_under_torchrun(
    tmp_path, corpus, new_backbone, new_recipe, one_thread
):
    # Batches of 9 in shares of 4 and 5, in parts of 3. SGD, because AdamW makes steps of full size of what is left by
    # rounding where the gradient is zero.
    recipe = new_recipe(optimizer="sgd", learning_rate=0.1, micro_batch_size=3, epochs=10)
    place = Workplace(tmp_path, corpus, new_backbone(), recipe)
    two = {"STILLMOTION_DEVICES": "2", "STILLMOTION_CHECKPOINT_SECONDS": "0"}

    uninterrupted = place.start(sys.executable, output="whole", STILLMOTION_MEMO="off", **two)
    process = place.start(sys.executable, output="killed", **two)
    while process.poll() is None and place.steps_done() < 2:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=200)
    assert not (tmp_path / "killed").exists()
    done = place.steps_done()
    assert 2 <= done < 20

    torchrun = shutil.which("torchrun", path=str(Path(sys.executable).parent))
    log = finished(place.start(torchrun, "--nproc-per-node", "2", output="killed"))
    assert f"going on from step {done} of 20" in log
    assert log.count("fine-tuning:") == 2  # that line and the last one, of the first process alone
    finished(uninterrupted)
    killed, whole = (tmp_path / name / "open_clip_model.safetensors" for name in ("killed", "whole"))
    assert killed.read_bytes() == whole.read_bytes()
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()

    backbone = new_backbone()
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    at_once = recipe.model_copy(update={"micro_batch_size": recipe.batch_size})
    task = FineTuning(backbone, corpus.frames, corpus.train, corpus.validation, at_once)
    fitted = finetune(task, memo=Memo(None), key={})
    expected, (found, _) = backbone.model.state_dict(), load_tensors(whole)
    assert max((expected[name] - before[name]).abs().max() for name in expected) > 1e-2
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0, msg=name)
    history = read_json(tmp_path / "whole.json")
    assert [row["loss"] for row in history] == pytest.approx([row["loss"] for row in fitted.history], abs=2e-6)
    assert [row["score"] for row in history] == pytest.approx([row["score"] for row in fitted.history], abs=1e-6)
