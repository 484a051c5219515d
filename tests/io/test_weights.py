import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from stillmotion.errors import InputError
from stillmotion.io.weights import load_into, load_tensors, save_tensors

WRITE = """
import sys
from pathlib import Path
import torch
from stillmotion.io.weights import save_tensors

names = ["b.weight", "a.bias", "c/deep", "scalar"]
if sys.argv[2] == "backwards":
    names.reverse()
make = {
    "b.weight": torch.arange(12.0).reshape(3, 4),
    "a.bias": torch.tensor([1.5, -2.0]),
    "c/deep": torch.tensor([1, 2]),
    "scalar": torch.tensor(4.6),
}
state = {"step": 3, "history": [{"loss": 0.1}], "best": None}
if sys.argv[2] == "backwards":
    state = dict(reversed(state.items()))
save_tensors(Path(sys.argv[1]), {name: make[name] for name in names}, state)
"""


@pytest.mark.slow
def test_the_same_tensors_and_state_are_the_same_bytes_in_two_processes_and_two_orders(tmp_path):
    for order in ("forwards", "backwards"):
        subprocess.run([sys.executable, "-c", WRITE, str(tmp_path / order), order], check=True, timeout=120)
    assert (tmp_path / "forwards").read_bytes() == (tmp_path / "backwards").read_bytes()


def test_tensors_and_state_come_back_as_they_were(tmp_path):
    tensors = {
        "float": torch.tensor([[0.1, 0.2]]),
        "int": torch.tensor([1, 2, 3]),
        "half": torch.tensor(1.5, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 4),
    }
    state = {"step": 3, "loss": 0.1 + 0.2, "best_score": None, "history": [{"epoch": 0}]}
    save_tensors(tmp_path / "x.safetensors", tensors, state)
    loaded, found = load_tensors(tmp_path / "x.safetensors")
    assert found == state
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_parameters_views_and_shared_tensors_are_saved_by_value(tmp_path):
    parameter = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    save_tensors(tmp_path / "x", {"one": parameter, "same": parameter, "turned": parameter.T, "row": parameter[1]})
    loaded = load_file(tmp_path / "x")
    assert loaded["one"].tolist() == loaded["same"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert loaded["turned"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert loaded["row"].tolist() == [3.0, 4.0, 5.0]


def test_without_a_state_an_empty_one_is_read(tmp_path):
    save_tensors(tmp_path / "x", {"a": torch.zeros(1)})
    assert load_tensors(tmp_path / "x")[1] == {}


def test_a_corrupt_file_is_named_with_the_mend(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.zeros(100)})
    for content in (b"", b"garbage that is no header", path.read_bytes()[:-10]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="remove it and run the stage again") as caught:
            load_tensors(path)
        assert str(caught.value).startswith(f"{path}: not safetensors (")
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError) as caught:
        load_tensors(tmp_path / "x.safetensors")
    assert str(caught.value) == f"{tmp_path / 'x.safetensors'}: no such file"


def test_a_file_without_tensors_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    # The format's own: eight bytes of the header's length, and a header that names nothing.
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError) as caught:
        load_tensors(path)
    assert str(caught.value) == f"{path}: holds no tensors; remove it and run the stage again"


def test_tensors_of_another_module_and_a_state_that_is_none_are_one_line(tmp_path):
    path = tmp_path / "seed-0.safetensors"
    for weight in ({"weight": torch.zeros(3, 4)}, {"weight": torch.zeros(3, 2), "other": torch.zeros(1)}):
        save_tensors(path, {"bias": torch.zeros(3)} | weight)
        with pytest.raises(
            InputError, match=r"seed-0\.safetensors: of another module \(.*\); remove it and run"
        ) as caught:
            load_into(torch.nn.Linear(2, 3), path)
        assert "\n" not in str(caught.value)
    save_file({"weight": torch.zeros(3, 2)}, path, metadata={"state": "{x"})
    with pytest.raises(InputError, match=r"seed-0\.safetensors: not safetensors \(Expecting property name"):
        load_tensors(path)
