"""Fetching 1,000 files of 1 MB from loopback with `download`, killed five times, against plain requests.

    python -m benchmarks.fetch

A server in this process counts what it sends of each file. The stage is killed by SIGKILL each time that a number of
bytes has gone out, drawn by a seed, and started again. `asked_again` are files that were whole when a process was
killed and yet were asked for later: none shall be. `sent_twice_mb` is what was sent beyond the files'
own length: what lay in the buffers of connections when a process was killed, less than a file for each of those that
were on their way (`allowed_twice_mb`). The outs must be those of a run that nobody killed. `fetch_s` is what the stage
says that fetching takes, `plain_s` what eight threads take that write what `requests.get` gives them, and
`download_again_s` a second run, which probes the videos and asks for nothing. Writes benchmarks/results/fetch.json.
"""

import csv
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import requests

from stillmotion.io.memo import folder_digest
from stillmotion.io.tables import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "fetch.json"
FILES, SIZE, KILLS, PARALLEL, SEED = 1000, 1_000_000, 5, 8, 0
BLOCK = 64 << 10


class Server(ThreadingHTTPServer):
    """Films of SIZE bytes, each different from the others, with ranges and tags."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.film = make_film()
        self.asked: Counter[int] = Counter()
        self.sent: Counter[int] = Counter()
        self.lock = threading.Lock()

    def content(self, number: int) -> bytes:
        """The film, and a box without meaning that fills it up."""
        rest = SIZE - len(self.film) - 8
        filling = np.random.default_rng([SEED, number]).bytes(rest)
        return self.film + (rest + 8).to_bytes(4, "big") + b"free" + filling

    def handle_error(self, *_: Any) -> None:
        """A client that was killed is no fault."""


class Handler(BaseHTTPRequestHandler):
    """Sends a film from any byte on."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        number = int(self.path.removeprefix("/").removesuffix(".mp4"))
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        body = memoryview(self.server.content(number))[start:]
        with self.server.lock:
            self.server.asked[number] += 1
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{number}"')
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{SIZE - 1}/{SIZE}")
        self.end_headers()
        for at in range(0, len(body), BLOCK):
            sent = self.wfile.write(body[at : at + BLOCK])
            with self.server.lock:
                self.server.sent[number] += sent


def make_film() -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(20):
            output.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        output.mux(stream.encode(None))
    return target.getvalue()


def prepare(root: Path, url: str) -> None:
    source = root / "data" / "sources" / "films"
    source.mkdir(parents=True)
    (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    entries = "".join(f"  - url: {url}/{number:04}.mp4\n" for number in range(FILES))
    (source / "source.yaml").write_text(f"files:\n{entries}", encoding="utf-8")
    with (source / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("video", "caption"), ("0000.mp4", "a dark screen")])


def start(root: Path, *, memo: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "src" / "download.py"), "--source", "data/sources/films", "--output", "raw"]
    environment = os.environ | {"STILLMOTION_MEMO": str(root / memo), "STILLMOTION_FETCHES": str(PARALLEL)}
    return subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> float:
    """The seconds that it says fetching took."""
    log = process.communicate()[1].decode()
    if process.returncode:
        raise RuntimeError(f"download failed: {log}")
    told = re.search(r"files fetched: \d+ in ([\d.]+) s", log)
    return float(told[1]) if told else 0.0


def killed_run(root: Path, server: Server) -> dict[str, Any]:
    """A run that is killed when so much of the total has been sent, and what was sent twice."""
    digests = {number: hashlib.sha256(server.content(number)).hexdigest() for number in range(FILES)}
    content = root / "killed" / "fetched" / "content"
    points = sorted(np.random.default_rng(SEED).uniform(0.02, 0.98, KILLS) * FILES * SIZE)
    counts: list[int] = []
    whole: dict[int, int] = {}  # how often a file had been asked for when it was first seen whole
    for point in points:
        process = start(root, memo="killed")
        while process.poll() is None and server.sent.total() < point:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(0.2)  # until the threads of the server notice
        found = [number for number, digest in digests.items() if (content / digest[:2] / digest).is_file()]
        whole = {number: server.asked[number] for number in found} | whole
        counts.append(len(found))
    finish(start(root, memo="killed"))
    return {
        "killed_at_mb": [float(point) / 1e6 for point in points],
        "whole_when_killed": counts,
        "asked_again": sum(server.asked[number] > count for number, count in whole.items()),
        "asked_more_than_once": sum(count > 1 for count in server.asked.values()),
        "sent_twice_mb": (server.sent.total() - FILES * SIZE) / 1e6,
        "allowed_twice_mb": KILLS * PARALLEL * SIZE / 1e6,
    }


def plain_s(url: str, folder: Path) -> float:
    """Seconds of eight threads that write what requests gives them."""
    folder.mkdir()
    sessions = threading.local()

    def get(number: int) -> None:
        if not hasattr(sessions, "one"):
            sessions.one = requests.Session()
        (folder / f"{number:04}.mp4").write_bytes(sessions.one.get(f"{url}/{number:04}.mp4", timeout=60).content)

    started = time.perf_counter()
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(get, range(FILES)))
    return time.perf_counter() - started


def main() -> dict[str, Any]:
    """Measure, write the result, and return it."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root, url)
        killed = killed_run(root, server)
        digest = folder_digest(root / "raw")
        fetch_s = finish(start(root, memo="alone"))
        same = digest == folder_digest(root / "raw")
        asked = server.asked.total()
        started = time.perf_counter()
        finish(start(root, memo="alone"))
        again_s = time.perf_counter() - started
        result = {
            "files": FILES,
            "bytes_each": SIZE,
            "fetches": PARALLEL,
            "cpus": os.cpu_count(),
            "load_before": load,
            **killed,
            "same_bytes": same,
            "fetch_s": fetch_s,
            "download_again_s": again_s,
            "asked_by_download_again": server.asked.total() - asked,
            "plain_s": plain_s(url, root / "plain"),
        }
    server.shutdown()
    write_json(RESULT, result, digits=3)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
