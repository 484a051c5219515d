"""What keeps `stillmotion serve` from serving is one line; Ctrl-C ends it without any."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillmotion import cli

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"


@pytest.fixture
def refused(capsys):
    def run(*arguments):
        assert cli.run(["serve", *map(str, arguments)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("stillmotion: error: ")
        assert captured.err.count("\n") == 1
        return captured.err

    return run


@pytest.fixture
def project(tmp_path):
    shutil.copyfile(PARAMS, tmp_path / "params.yaml")
    return tmp_path


def test_without_the_extra_a_line_says_how_to_have_it(refused, monkeypatch, project):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    assert "pip install 'stillmotion[serve]'" in refused("--root", project)


def test_what_is_no_port_or_host_or_is_taken_is_one_line(refused, project):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}: is in use; give another" in refused("--root", project, "--port", port)
    assert "--port" in refused("--root", project, "--port", "70000")
    assert "--port" in refused("--root", project, "--port", "x")
    assert "--host 203.0.113.1: " in refused("--root", project, "--port", 0, "--host", "203.0.113.1")
    assert "--host a b: no address" in refused("--root", project, "--port", 0, "--host", "a b")


def test_without_a_project_or_embeddings_a_line_says_what_builds_them(refused, project, tmp_path):
    assert "params.yaml: no such file" in refused("--root", tmp_path / "absent")
    assert "toy is not built; build it with `dvc repro`" in refused("--root", project, "--port", 0)


@pytest.mark.slow
def test_ctrl_c_ends_it_without_a_word_and_search_finds_it_no_more(tmp_path):
    from search_project import build_project, make_clip

    build_project(tmp_path, make_clip())
    (tmp_path / ".dvc").mkdir()
    command = [sys.executable, "-c", "from stillmotion.cli import main; main()", "serve", "--port", "0"]
    started = subprocess.Popen(
        [*command, "--root", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        assert line.startswith("http://127.0.0.1:")
        assert line.endswith("/  3 videos of toy; Ctrl-C ends\n")
        assert (tmp_path / ".dvc/tmp/stillmotion-serve.json").is_file()
        time.sleep(0.5)
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=20)
    finally:
        started.kill()
    assert (out, err, started.returncode) == ("", "", 0)
    assert not (tmp_path / ".dvc/tmp/stillmotion-serve.json").exists()
