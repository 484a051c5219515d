import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as npst

from stillmotion.errors import InputError
from stillmotion.io.arrays import load_array, save_array


@given(
    npst.arrays(
        npst.floating_dtypes(sizes=(32, 64), endianness="<") | npst.integer_dtypes(endianness="<"),
        npst.array_shapes(min_dims=1, min_side=0),
    )
)
def test_an_array_reads_back_as_it_was(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("arrays") / "x.npy"
    save_array(path, array)
    loaded = load_array(path)
    assert loaded.dtype == array.dtype
    np.testing.assert_array_equal(loaded, array)


def test_the_layout_in_memory_changes_no_byte(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    save_array(tmp_path / "c.npy", array)
    save_array(tmp_path / "f.npy", np.asfortranarray(array))
    save_array(tmp_path / "s.npy", np.repeat(array, 2, axis=1)[:, ::2])
    assert len({(tmp_path / name).read_bytes() for name in ("c.npy", "f.npy", "s.npy")}) == 1
    assert np.load(tmp_path / "f.npy").tolist() == array.tolist()


def test_an_array_is_a_read_only_map_of_the_file(tmp_path):
    save_array(tmp_path / "x.npy", np.zeros(3))
    loaded = load_array(tmp_path / "x.npy")
    assert isinstance(loaded, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        loaded[0] = 1


@pytest.mark.parametrize("content", [b"", b"no array at all", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_array_is_named(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"not a \.npy array") as caught:
        load_array(tmp_path / "x.npy")
    assert str(caught.value).startswith(f"{tmp_path / 'x.npy'}: ")


def test_a_truncated_array_is_named(tmp_path):
    save_array(tmp_path / "x.npy", np.zeros(1000))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-8])
    with pytest.raises(InputError, match=r"x\.npy: not a \.npy array"):
        load_array(tmp_path / "x.npy")


def test_an_array_of_objects_is_neither_written_nor_read(tmp_path):
    array = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"):
        save_array(tmp_path / "x.npy", array)
    assert list(tmp_path.iterdir()) == []
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match="x.npy"):
        load_array(tmp_path / "x.npy")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError) as caught:
        load_array(tmp_path / "x.npy")
    assert str(caught.value) == f"{tmp_path / 'x.npy'}: no such file"


def test_an_archive_or_a_shape_beyond_the_file_is_no_array(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }\n"
    for content in (header % (b"9" * 30), header % b"10**12", header % b"1" * 12, b"(" * 1000 + b"\n"):
        (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content)
        with pytest.raises(InputError, match=r"x\.npy: not a \.npy array"):
            load_array(tmp_path / "x.npy")
    np.savez(tmp_path / "archive", a=np.zeros(2))
    with pytest.raises(InputError, match="an archive of several"):
        load_array(tmp_path / "archive.npz")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.zeros((0, 4), np.float32),
        np.array(3),
        np.array(["a", "bc"]),
        np.ones(2, bool),
    ],
)
def test_the_bytes_are_those_of_numpy(tmp_path, array):
    save_array(tmp_path / "ours.npy", array)
    np.save(tmp_path / "numpys.npy", np.ascontiguousarray(array))
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpys.npy").read_bytes()
