"""How a search finds the server of its project: a file there says where it listens, and a secret that proves who does.

Whoever has taken the port since does not know the secret, which only the user can read; and a server that would answer
otherwise than the search itself (`identity`) is not asked.
"""

import contextlib
import hashlib
import hmac
import http.client
import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlencode

from stillmotion.io.atomic import atomic_file
from stillmotion.search.finder import Answer
from stillmotion.search.ranking import FoundMoment

STATE = Path(".dvc/tmp/stillmotion-serve.json")
CONNECT_S, ANSWER_S = 1.0, 30.0


def new_secret() -> str:
    """A key that nobody guesses, in hex."""
    return secrets.token_hex(32)


def proof(secret: str, nonce: str) -> str:
    """What only who knows the secret can tell of a nonce."""
    return hmac.new(bytes.fromhex(secret), nonce.encode(), hashlib.sha256).hexdigest()


@contextlib.contextmanager
def announced(root: Path, address: str, port: int, secret: str) -> Iterator[None]:
    """Let searches in the project find the server; where it has no .dvc, they do not."""
    place = root / STATE
    if not (root / ".dvc").is_dir():
        yield
        return
    with atomic_file(place) as partial:
        partial.touch(mode=0o600)
        partial.write_text(json.dumps({"address": address, "port": port, "secret": secret}), encoding="utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError, KeyError):  # another server has taken its place
            if json.loads(place.read_text(encoding="utf-8"))["secret"] == secret:
                place.unlink()


def ask(root: Path, own: str, question: Mapping[str, object], image: bytes | None) -> tuple[Answer, str] | None:
    """The answer of the project's server and its address; None where there is none that answers as this process would.

    Args:
        root: of the project.
        own: `identity` of this process.
        question: parameters of /api/search; what is None is left out.
        image: content of an image file.
    """
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        state = json.loads((root / STATE).read_text(encoding="utf-8"))
        connection = http.client.HTTPConnection(state["address"], int(state["port"]), timeout=CONNECT_S)
        with contextlib.closing(connection):
            nonce = secrets.token_hex(16)
            known = _get(connection, f"/api/identity?nonce={nonce}")
            if not hmac.compare_digest(str(known["proof"]), proof(state["secret"], nonce)) or known["identity"] != own:
                return None
            if connection.sock is not None:
                connection.sock.settimeout(ANSWER_S)
            asked = urlencode({name: value for name, value in question.items() if value is not None})
            path = "/api/search" if image is None else "/api/search/image"
            found = _get(connection, f"{path}?{asked}", image)
            if found["identity"] != own:
                return None
            names = FoundMoment.__slots__
            moments = [FoundMoment(**{name: row[name] for name in names}) for row in found["moments"]]
            answer = Answer(moments, found["num_videos"], found["system"], found["notes"])
            return answer, f"http://{state['address']}:{state['port']}"
    return None


def _get(connection: http.client.HTTPConnection, path: str, image: bytes | None = None) -> dict:
    headers = {} if image is None else {"Content-Type": "image/unknown"}
    connection.request("GET" if image is None else "POST", path, image, headers)
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise ValueError(f"status {response.status}")
    told: dict = json.loads(content)
    return told
