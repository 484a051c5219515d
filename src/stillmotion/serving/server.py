"""The server as a process: a socket that is free, a model that is loaded, and an end that is quiet."""

import errno
import gc
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from stillmotion.errors import InputError
from stillmotion.serving.app import make_app
from stillmotion.serving.guard import own_names
from stillmotion.serving.library import Library
from stillmotion.serving.running import announced, new_secret

LARGEST_HEAD = 32 * 1024
"""Bytes of a request's first line and headers: a text of 2,000 characters may take 24,000 in an address."""
MOST_CLIENTS = 500
LAST_REQUESTS_S = 1


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a port which is taken is told before a model is loaded.

    Raises:
        InputError: the port is taken or not ours to take, or no interface has the address.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        bound = socket.socket(family, kind)
    except (socket.gaierror, UnicodeError) as error:
        raise InputError(f"--host {host}: no address of this machine ({error}); give 127.0.0.1") from None
    try:
        if os.name == "posix":  # a port that has just been let go is free
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What it accepts has this from it: else the end of an answer waits 40 ms for its beginning to be acknowledged.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.bind(address)
        bound.listen(MOST_CLIENTS)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"--port {port}: is in use; give another, or 0 for any that is free") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise InputError(
                f"--port {port}: is the system's; give one above 1023, or 0 for any that is free"
            ) from None
        raise InputError(f"--host {host}: {error.strerror}; give 127.0.0.1") from None
    return bound


def server_of(app: FastAPI) -> uvicorn.Server:
    """What speaks HTTP for the application: quiet, and with limits."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            http="h11",
            h11_max_incomplete_event_size=LARGEST_HEAD,
            limit_concurrency=MOST_CLIENTS,
            timeout_graceful_shutdown=LAST_REQUESTS_S,
        )
    )


def serve(root: Path, host: str, port: int, tell: Callable[[str, Library], None]) -> None:
    """Serve a project until a signal ends it.

    Args:
        root: of the project.
        host: an address or a name of this machine.
        port: 0 for any that is free.
        tell: is called with the address of the page once it answers.

    Raises:
        InputError: it can't listen there, or there is nothing to search.
    """
    with listening(host, port) as bound, ThreadPoolExecutor(1, "search") as worker:
        library = Library(root)
        worker.submit(library.warm).result()
        gc.collect()
        gc.freeze()  # what is loaded stays: no search for garbage goes through it again
        address, port = bound.getsockname()[:2]
        address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
        secret = new_secret()
        app = make_app(library, worker, names=own_names(host), secret=secret)
        shown = f"[{address}]" if ":" in address else address
        with announced(root, address, port, secret):
            tell(f"http://{shown}:{port}/", library)
            try:
                server_of(app).run(sockets=[bound])
            except KeyboardInterrupt:  # which uvicorn raises again once it has ended; a second one finds nothing to end
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            finally:
                gc.unfreeze()
