import pytest

from stillmotion.config.yaml_files import MAX_BYTES, read_yaml
from stillmotion.datasets.source_list import read_source_list
from stillmotion.errors import InputError
from stillmotion.experiments.settings import layer_of_options

# 10 lists of the one before, nine times over: a billion values in 10 lines.
BOMB = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a: " + b"[" * 5000, "nested more than 100 deep; take brackets out"),
        (b"a: " + b"[" * 101 + b"]" * 101, "nested more than 100 deep; take brackets out"),
        (b"a: &a [*a]", "nested more than 100 deep; take brackets out"),
        (BOMB.encode(), "its aliases stand for more than 100,000 values; write less of them"),
        (b"a: " + b"9" * 5000, "a value can't be read (Exceeds the limit"),
        (
            b"a: 0x" + b"f" * 5000,
            "a value can't be read (a whole number of 20000 bits, and the most is 9223372036854775807",
        ),
        (b"a: !!bool maybe", "a value can't be read ("),
        (b"a: 2001-99-99", "a value can't be read (month must be in 1..12); mend it"),
        (b"a: 2026-11-29", "a value can't be read (2026-11-29 is a date to YAML; quote it); mend it"),
        (b"? [a]\n: 1", "a value can't be read (('a',) is a tuple to YAML; quote it); mend it"),
        (b"#" * (MAX_BYTES + 1), "longer than 1024 KiB; it shall hold params alone"),
        (b"a: !!python/object/apply:os.system [ls]", "not YAML (could not determine a constructor"),
        (b"a: \0", "not YAML (unacceptable character"),
        (b"\xff\xfe", "not UTF-8 (invalid start byte at byte 0); save it as UTF-8"),
    ],
)
def test_what_is_out_of_bounds_is_one_line_that_names_the_file(tmp_path, content, reason):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)


def test_what_is_within_bounds_is_read(tmp_path):
    path = tmp_path / "params.yaml"
    deep = "[" * 99 + "]" * 99
    path.write_bytes(f"\ufeffrate: 1e-4\nshared: &s [1, 2]\nagain: *s\ndeep: {deep}\n".encode())
    found = read_yaml(path)
    assert (found["rate"], found["shared"], found["again"]) == (1e-4, [1, 2], [1, 2])


def test_a_folder_or_nothing_in_its_place_is_told(tmp_path):
    (tmp_path / "file").touch()
    gone = "no such file; run this from the root"
    for path, reason in ((tmp_path, "is a folder"), (tmp_path / "a.yaml", gone), (tmp_path / "file" / "a.yaml", gone)):
        with pytest.raises(InputError) as caught:
            read_yaml(path)
        assert str(caught.value).startswith(f"{path}: {reason}")


def test_a_setting_of_the_command_line_and_a_list_of_files_have_the_same_bounds(tmp_path):
    for value in ("2026-11-29", "[" * 101 + "]" * 101, "9" * 5000, "0x" + "f" * 5000):
        with pytest.raises(InputError, match="^--set .*: (nested more|a value can't be read)"):
            layer_of_options([f"threads={value}"], {})
        (tmp_path / "source.yaml").write_text(f"files: {value}")
        with pytest.raises(InputError, match=r"source\.yaml: (nested more than 100 deep|a value can't be read)"):
            read_source_list(tmp_path / "source.yaml")
