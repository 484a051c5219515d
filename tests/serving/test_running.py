"""`stillmotion search` with a server and without: the same bytes, and no server that would answer otherwise."""

import contextlib
import json
import os
import time

import pytest
from PIL import Image
from search_project import TEXT

from stillmotion import cli
from stillmotion.serving.running import STATE

ASKED = "answered by http://127.0.0.1:"


@contextlib.contextmanager
def aside(file):
    kept = file.rename(file.with_suffix(".aside"))
    try:
        yield
    finally:
        kept.rename(file)


@pytest.fixture
def search(served_project, capsys):
    def run(*arguments):
        status = cli.run(["search", *map(str, arguments), "--root", str(served_project)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def without(served_project, running):
    """Runs something while the server can't be found."""

    def run(do, *arguments):
        with aside(served_project / STATE):
            return do(*arguments)

    return run


@pytest.fixture
def image(tmp_path):
    Image.new("RGB", (50, 40), (200, 30, 30)).save(tmp_path / "red.png")
    return tmp_path / "red.png"


@pytest.mark.slow
def test_the_output_is_the_same_bytes_with_a_server_and_without(search, without, image):
    for arguments in (
        [TEXT],
        [TEXT, "--json", "--top", 2],
        [TEXT, "--dataset", "mine"],
        ["ball " * 40, "--selection", "vc1_none"],
        [TEXT, "--video", "yard"],
        ["--like", "street", "--start", 2, "--end", 4, "--json"],
        ["--image", image],
    ):
        status, out, err = search(*arguments)
        alone = without(search, *arguments)
        assert (status, out) == alone[:2], arguments
        first, _, rest = err.partition("\n")
        assert first.startswith(ASKED)
        assert rest == alone[2]


def test_a_mistake_is_told_as_without_a_server(search, without, tmp_path):
    for arguments in ([TEXT, "--video", "stret"], ["--image", tmp_path / "absent.png"]):
        told = search(*arguments)
        assert told == without(search, *arguments)
        assert told[0] == 2


def test_the_frames_of_moments_are_written_from_a_servers_answer(search, tmp_path):
    _, _, err = search(TEXT, "--selection", "vc1_none", "--top", 1, "--frames", tmp_path / "out")
    assert ASKED in err
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["01_street_00003.00s.png", "01_street_00005.00s.png"]


def test_a_server_of_other_embeddings_is_not_asked(served_project, search, running):
    index = served_project / "data/embeddings/toy-small_clip/index.jsonl"
    before = index.stat().st_mtime_ns
    running.library._looked = time.monotonic() + 1_000  # it has not seen it yet
    os.utime(index, ns=(before, before + 1_000))
    try:
        status, _, err = search(TEXT)
    finally:
        os.utime(index, ns=(before, before))
        running.library._looked = 0.0
    assert (status, ASKED in err) == (0, False)


@pytest.mark.parametrize("change", [{"secret": "00" * 32}, {"port": 9}, {"secret": "no hex"}, {"address": 5}, None])
def test_who_has_taken_the_port_since_is_not_asked(served_project, search, running, change):
    state = served_project / STATE
    content = json.loads(state.read_text())
    with aside(state):
        state.write_text("{" if change is None else json.dumps(content | change))
        status, _, err = search(TEXT)
    assert (status, ASKED in err) == (0, False)


def test_only_the_user_can_read_the_secret(served_project, running):
    assert (served_project / STATE).stat().st_mode & 0o077 == 0
