"""The part of the Hugging Face hub that takes an upload, on loopback: its API, its stores by LFS and by xet."""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_secret_of_this_test"


class Hub(ThreadingHTTPServer):
    """What it was asked, what it holds, and what it shall refuse."""

    def __init__(self) -> None:
        """Bind to a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock = threading.Lock()
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.refuse: dict[str, int] = {}
        """Statuses by a part of the path; 0 breaks the connection."""
        self.part_size = 0
        """Of an upload in parts; 0 takes each file whole."""
        self.objects: dict[str, bytes] = {}
        """What arrived by LFS, by the sha256 that was announced for it."""
        self.parts: dict[str, dict[int, bytes]] = {}
        self.xorbs: list[bytes] = []
        """What arrived by xet."""
        self.verified: set[str] = set()
        self.held = ["README.md"]
        """Files of the repository before."""
        self.commit: list[dict[str, Any]] = []

    def committed(self, key: str) -> dict[str, dict[str, Any]]:
        """The lines of the commit of one kind, by path."""
        return {line["value"]["path"]: line["value"] for line in self.commit if line["key"] == key}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, answer: Any = None, status: int = 200, **headers: str) -> None:
        content = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(content))} | headers
        ).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _take(self) -> None:
        hub, path, body = self.server, self.path, self._body()
        with hub.lock:
            hub.asked.append(f"{self.command} {path}")
            if path.startswith(("/api/models/", "/api/repos/")):
                hub.tokens.add(self.headers.get("Authorization"))
            status = next((status for part, status in hub.refuse.items() if part in path), 200)
            if status == 0:
                self.close_connection = True
                return
            if status != 200:
                # A hub, or what stands before it, may well say what it was sent.
                self._send({"error": f"no, not with {self.headers.get('Authorization')}"}, status)
                return
            self._answer(path, body)

    do_GET = do_HEAD = do_POST = do_PUT = _take

    def _answer(self, path: str, body: bytes) -> None:
        hub = self.server
        said = json.loads(body) if body[:1] == b"{" and b"}\n{" not in body else {}
        if path == "/api/repos/create":
            self._send({"url": f"{hub.url}/me/toy", "id": "me/toy"})
        elif "/preupload/" in path:
            modes = {True: "lfs", False: "regular"}
            files = [{"path": each["path"], "shouldIgnore": False} for each in said["files"]]
            self._send({"files": [f | {"uploadMode": modes[f["path"].endswith(".safetensors")]} for f in files]})
        elif "/tree/" in path:
            self._send([{"type": "file", "path": each, "size": 1, "oid": "0" * 40} for each in hub.held])
        elif path.startswith("/api/models/") and "/commit/" in path:
            hub.commit = [json.loads(line) for line in body.splitlines()]
            answer = {"commitUrl": f"{hub.url}/me/toy/commit/abc", "commitOid": "abc", "success": True}
            self._send(answer | {"errors": [], "warnings": []})
        elif path.endswith("/info/lfs/objects/batch"):
            self._send(
                {"transfer": "multipart" if hub.part_size else "basic", "objects": [*map(self._place, said["objects"])]}
            )
        elif path.startswith("/store/"):
            _, _, oid, number = path.split("?")[0].split("/")
            hub.parts.setdefault(oid, {})[int(number)] = body
            if number == "0":
                hub.objects[oid] = body
            self._send(ETag=_tag(body))
        elif path.startswith("/complete/"):
            oid, parts = said["oid"], hub.parts[said["oid"]]
            assert [each["etag"] for each in said["parts"]] == [
                _tag(parts[each["partNumber"]]) for each in said["parts"]
            ]
            hub.objects[oid] = b"".join(parts[number] for number in sorted(parts))
            self._send({})
        elif path.startswith("/verify"):
            hub.verified.add(said["oid"])
            self._send({})
        elif "/xet-write-token/" in path:
            answer = {"casUrl": hub.url, "exp": 4102444800, "accessToken": "of-xet"}
            self._send(answer, X_Xet_Cas_Url=hub.url, X_Xet_Access_Token="of-xet", X_Xet_Token_Expiration="4102444800")
        elif "/xorbs/" in path:
            hub.xorbs.append(body)
            self._send({"was_inserted": True})
        elif "/shards" in path:
            self._send({"result": 1}, 404 if "/v2/" in path else 200)  # the newer one is answered in frames
        else:  # a chunk that is stored already, a leave to store elsewhere, the repository where none could be made
            self._send({}, 200 if path in ("/", "/api/validate-yaml", "/v1/telemetry") else 404)

    def _place(self, each: dict[str, Any]) -> dict[str, Any]:
        hub, oid = self.server, each["oid"]
        signed = "X-Amz-Signature=sesame"
        upload: dict[str, Any] = {"href": f"{hub.url}/store/{oid}/0?{signed}"}
        if hub.part_size:
            count = -(-each["size"] // hub.part_size)
            places = {str(number): f"{hub.url}/store/{oid}/{number}?{signed}" for number in range(1, count + 1)}
            upload = {"href": f"{hub.url}/complete/{oid}", "header": {"chunk_size": str(hub.part_size)} | places}
        return each | {"actions": {"upload": upload, "verify": {"href": f"{hub.url}/verify"}}}


def _tag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


def content(line: dict[str, Any]) -> bytes:
    """The bytes of a file that the commit holds itself."""
    return base64.b64decode(line["content"])


def size_by_xet(xorb: bytes) -> int:
    """The bytes that a xorb holds: of chunks, each behind its version, two sizes of 24 bits and its compression."""
    place = total = 0
    while place < len(xorb) and xorb[place] == 0:
        packed, whole = (int.from_bytes(xorb[place + at : place + at + 3], "little") for at in (1, 5))
        place, total = place + 8 + packed, total + whole
    return total
