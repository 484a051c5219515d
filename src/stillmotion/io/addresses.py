"""Addresses of files: which can be opened, what of them may be shown, and whether their host can be reached."""

import contextlib
import re
import socket
import threading
import time
from urllib.parse import urlsplit, urlunsplit

CONNECT_S = 5.0
"""A host that has not answered by then is out of reach."""
HUB = re.compile(r"hf://datasets/(?P<name>[^/@]+/[^/@]+)@(?P<revision>[^/@]+)(?:/(?P<path>.*))?")
"""A dataset of a hub, and a path in it."""


class FetchError(Exception):
    """Why an address can't be read; the reason is the same in every run."""

    def __init__(self, reason: str, *, again: bool = False, anew: bool = False, wait_s: float = 0.0):
        """`again`: it may go better later, after `wait_s` seconds at least; `anew`: from its start."""
        super().__init__(reason)
        self.reason = reason
        self.again = again
        self.anew = anew
        self.wait_s = wait_s


def shown(url: str) -> str:
    """The address without what may be secret: user and password, and all of a query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "…"
    query = "…" if parts.query else ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def check_address(url: str) -> None:
    """Refuse an address that nothing here can open.

    Raises:
        ValueError: says what is wrong with it, and the mend.
    """
    from fsspec.registry import known_implementations

    try:
        parts = urlsplit(url)
        known = parts.scheme in known_implementations and (parts.hostname or parts.scheme not in ("http", "https"))
    except ValueError:
        known = False
    if not known or "://" not in url:
        raise ValueError(f"{shown(url)!r} is no address; write http://, https://, s3://, hf://datasets/ or the like")
    if parts.scheme == "hf" and not HUB.fullmatch(url):
        raise ValueError(f"{url!r} names no dataset with a revision; write hf://datasets/OWNER/NAME@REVISION/PATH")
    if parts.scheme in ("http", "https") and url.endswith("/"):
        raise ValueError(f"{shown(url)!r} is a folder, which a web server does not list; name its files")


class Hosts:
    """Which hosts can be reached: each is tried once, for a few seconds, however many files it has."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tried: dict[tuple[str, int], tuple[threading.Lock, list[bool]]] = {}

    def require(self, url: str) -> None:
        """Connect to the host of an http address, or to the proxy in front of it, unless that was done before.

        Raises:
            FetchError: it can't be reached.
        """
        host, port = _dialled(url)
        with self._lock:
            lock, answer = self._tried.setdefault((host, port), (threading.Lock(), []))
        with lock:
            if not answer:
                answer.append(_answers(host, port))
        if not answer[-1]:
            raise FetchError(f"{host} can't be reached")

    def doubt(self, url: str) -> None:
        """Try the host again before it is asked for another file: a connection was refused."""
        with self._lock:
            self._tried.pop(_dialled(url), None)


def _dialled(url: str) -> tuple[str, int]:
    from requests.utils import get_environ_proxies, select_proxy

    parts = urlsplit(select_proxy(url, get_environ_proxies(url)) or url)
    return parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)


def _answers(host: str, port: int) -> bool:
    """Whether a connection opens within CONNECT_S, at one of three attempts a second apart."""
    opened = threading.Event()
    end = time.monotonic() + CONNECT_S

    def dial() -> None:
        for _ in range(3):
            with contextlib.suppress(OSError):
                socket.create_connection((host, port), timeout=max(0.1, end - time.monotonic())).close()
                opened.set()
                return
            time.sleep(1.0)

    # A resolver of names can hang for half a minute, and can't be told not to.
    thread = threading.Thread(target=dial, daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    return opened.is_set()
