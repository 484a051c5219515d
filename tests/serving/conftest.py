"""A project with videos that play, and a server of it on loopback."""

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from search_project import COSINES, PROBED, build_project, make_clip, with_unit, write_embeddings

from stillmotion.config.interrupts import raise_instead
from stillmotion.io.records import Caption, Moment, Video, save_records

HTML = "<img src=x onerror=window.harmed=1>"
NAMED_IN_HTML = "a/<script>window.harmed=1</script>"


def write_video(path: Path) -> None:
    """5.5 s of H.264, whose brightness is its time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(22):
            pixels = np.full((32, 32, 3), 10 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="session")
def served_project(tmp_path_factory) -> Path:
    """Datasets toy, which is drawn, and mine, of files with names and captions in HTML."""
    root = tmp_path_factory.mktemp("served") / "project"
    root.mkdir()
    clip = make_clip()
    build_project(root, clip)
    (root / ".dvc").mkdir()
    first = root / "data/raw/toy/videos/street.mp4"
    write_video(first)
    files = {name: f"data/raw/toy/videos/{name}.mp4" for name in COSINES}
    mine = {
        NAMED_IN_HTML: ("data/sources/mine/a/<script>.mp4", "test", [0.1, 0.9, 0.1]),
        "b": ("data/sources/mine/b.mp4", "train", [0.8, 0.1, 0.1]),
    }
    for path in [*files.values(), *(path for path, _, _ in mine.values())]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if root / path != first:
            shutil.copyfile(first, root / path)
    tables = root / "data/raw/toy/tables"
    save_records(tables, Video, [Video(name, file, "test", **PROBED, status="ok") for name, file in files.items()])
    said = [Caption("1", "street", HTML, 2.0, 4.0), Caption("2", "yard", "a yard", None, None)]
    save_records(tables, Caption, said)
    save_records(tables, Moment, [])
    videos = [Video(name, path, split, **PROBED, status="ok") for name, (path, split, _) in mine.items()]
    save_records(root / "data/raw/mine/tables", Video, videos)
    curves = {name: cosines for name, (_, _, cosines) in mine.items()}
    splits = {name: split for name, (_, split, _) in mine.items()}
    write_embeddings(root / "data/embeddings/mine-small_clip", *with_unit(root, clip), curves, splits=splits)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


@dataclass
class Running:
    """A server, its library and where it listens."""

    url: str
    port: int
    root: Path
    library: object
    secret: str


@contextlib.contextmanager
def serving(root: Path) -> Iterator[Running]:
    raise_instead()  # as the command has it: the handler of a signal is set by the main thread alone
    from stillmotion.serving.app import make_app
    from stillmotion.serving.guard import own_names
    from stillmotion.serving.library import Library
    from stillmotion.serving.running import announced, new_secret
    from stillmotion.serving.server import listening, server_of

    with listening("127.0.0.1", 0) as bound, ThreadPoolExecutor(1) as worker:
        library, secret = Library(root), new_secret()
        port = bound.getsockname()[1]
        server = server_of(make_app(library, worker, names=own_names("127.0.0.1"), secret=secret))
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        thread.start()
        try:
            with announced(root, "127.0.0.1", port, secret):
                yield Running(f"http://127.0.0.1:{port}", port, root, library, secret)
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture
def serve() -> Callable[[Path], contextlib.AbstractContextManager[Running]]:
    """Serves another project for a while."""
    pytest.importorskip("fastapi", reason="no FastAPI: the extra `serve` is not installed")
    return serving


@pytest.fixture(scope="session")
def running(served_project) -> Iterator[Running]:
    pytest.importorskip("fastapi", reason="no FastAPI: the extra `serve` is not installed")
    with serving(served_project) as found:
        yield found


@pytest.fixture
def raw(running) -> Callable[[bytes], bytes]:
    """Sends bytes as they are, and gives what comes back; no client tidies the path."""

    def send(request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(request)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(65536):
                    answer += part
        return answer

    return send
