"""A server on loopback that misbehaves as it is told to."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server has, how it misbehaves, and what it has been asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    """By path, such as /a.mp4."""
    faults: dict[str, list[str]] = field(default_factory=dict)
    """By path, what happens at the first request, the second, …: `500`, `429 Retry-After: 1`, `break 40`, `wait 3`"""
    always: dict[str, str] = field(default_factory=dict)
    """By path, what happens at every request without a fault of its own."""
    ranges: bool = True
    tags: bool = True
    requests: Counter[str] = field(default_factory=Counter)
    headers: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes of bodies, by path."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        site, path = self.site, self.path.partition("?")[0]
        with site.lock:
            number = site.requests[path]
            site.requests[path] += 1
            site.headers.append((path, {name.lower(): value for name, value in self.headers.items()}))
            faults = site.faults.get(path, [])
            fault = faults[number] if number < len(faults) else site.always.get(path, "")
        word, _, rest = fault.partition(" ")
        if word.isdecimal():
            self.send_response(int(word))
            for header in filter(None, rest.split("; ")):
                self.send_header(*header.split(": ", 1))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if word == "wait":
            time.sleep(float(rest))
        content = site.files.get(path)
        if content is None:
            self.send_error(404)
            return
        self._send(path, content, word, rest)

    def _send(self, path: str, content: bytes, word: str, rest: str) -> None:
        site = self.site
        tag = f'"{hash(content)}"'
        start = 0
        asked = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, tag) or word == "ignores-if-range"
        if asked and site.ranges and same:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if site.tags:
            self.send_header("ETag", tag)
        body = content[start:]
        if word == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            middle = len(body) // 2
            for part in (body[:middle], body[middle:]):
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                if rest == "break":
                    self.close_connection = True
                    return
            self.wfile.write(b"0\r\n\r\n")
        else:
            length = int(rest) if word == "says" else len(body)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if word == "break":
                body = body[: int(rest)]
                self.close_connection = True
            if word == "drip":
                for number in range(len(body)):
                    with contextlib.suppress(OSError):
                        self.wfile.write(body[number : number + 1])
                    time.sleep(float(rest))
            else:
                with contextlib.suppress(OSError):
                    self.wfile.write(body)
            if length < len(body):
                self.close_connection = True
        with site.lock:
            site.sent[path] += len(body)


@contextlib.contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve `site` on a free port of loopback; its url has no slash at its end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
