import socket
import threading
import time

import pytest
from huggingface_hub import constants, hf_hub_download

from stillmotion.backbones.hub import TIMEOUT_S, try_hub


@pytest.fixture
def silent(monkeypatch, tmp_path):
    """A hub that takes connections and says nothing."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_given_up_after_one_request(silent):
    start = time.monotonic()
    try_hub()
    with pytest.raises(OSError, match="."):
        hf_hub_download("organisation/model", "config.json")
    assert time.monotonic() - start < TIMEOUT_S + 1


def test_a_hub_that_refuses_is_given_up_at_once_and_that_is_told(silent, caplog):
    silent.close()
    start = time.monotonic()
    try_hub()
    assert constants.HF_HUB_OFFLINE
    assert time.monotonic() - start < 1
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{constants.ENDPOINT} does not answer (ConnectError ")


def test_a_hub_that_answers_whatever_it_says_is_asked(silent):
    silent.settimeout(5)

    def answer():
        connection, _ = silent.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    try_hub()
    thread.join()
    assert not constants.HF_HUB_OFFLINE
