"""Bytes from an address, from an offset on: http, https, a hub's dataset, and whatever fsspec opens (s3, gs, ...).

What goes wrong is told in words that are the same in every run and hold nothing that is secret in an address.
"""

import contextlib
import email.utils
import hashlib
import http
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stillmotion.errors import InputError
from stillmotion.io.addresses import CONNECT_S, HUB, FetchError, Hosts

CHUNK = 1 << 20
BLOCK = 8 << 20
"""Bytes that a file system other than http is asked for at once."""
_MAX_REDIRECTS = 10
_BUSY = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Body:
    """A file as it comes."""

    start: int
    """Where in the file the chunks begin: not at the offset, where a server knows no ranges."""
    size: int | None
    """Of the whole file, in bytes, where it is told."""
    validator: str | None
    """What changes when the content does, where there is such a thing."""
    chunks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Listed:
    """A file below an address that ends in a slash."""

    path: str
    """Below that address."""
    url: str
    size: int | None
    sha256: str | None


class Transport:
    """Opens addresses, with one connection a thread for each host."""

    def __init__(self, *, timeout_s: float):
        self.hosts = Hosts()
        self._timeout_s = timeout_s
        self._thread = threading.local()

    def open_at(self, url: str, offset: int, validator: str | None) -> contextlib.AbstractContextManager[Body]:
        """The file from `offset` on; from its start, where the server can't, or where it is not what `validator` says.

        Raises:
            FetchError: on entering, or while the chunks are read.
        """
        if url.startswith("hf://"):
            from huggingface_hub.utils import build_hf_headers

            return self._open_http(_hub_url(url), offset, validator, build_hf_headers())
        if url.startswith(("http://", "https://")):
            return self._open_http(url, offset, validator, {})
        return self._open_fsspec(url, offset)

    def list_folder(self, url: str) -> list[Listed]:
        """The files below an address that ends in a slash, in no particular order.

        Raises:
            FetchError: it can't be listed.
        """
        if url.startswith("hf://"):
            return self._list_hub(url)
        with self._reading():
            fs, path = self._filesystem(url)
            found = fs.find(path, detail=True)
        root = fs._strip_protocol(path).rstrip("/")
        return [
            Listed(name[len(root) :].lstrip("/"), url + name[len(root) :].lstrip("/"), info.get("size"), None)
            for name, info in found.items()
        ]

    def _list_hub(self, url: str) -> list[Listed]:
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        match = _hub_match(url)
        # The hub's own client tries for 23 s and more.
        self.hosts.require(HfApi().endpoint)
        folder = (match["path"] or "").strip("/")
        with self._reading():
            tree = HfApi().list_repo_tree(
                match["name"],
                folder or None,
                recursive=True,
                revision=urllib.parse.unquote(match["revision"]),
                repo_type="dataset",
            )
            files = [item for item in tree if isinstance(item, RepoFile)]
        prefix = f"hf://datasets/{match['name']}@{match['revision']}/"
        return [
            Listed(
                file.path.removeprefix(folder).lstrip("/"),
                prefix + file.path,
                file.size,
                file.lfs.sha256 if file.lfs else None,
            )
            for file in files
        ]

    @contextlib.contextmanager
    def _open_http(self, url: str, offset: int, validator: str | None, headers: dict[str, str]) -> Iterator[Body]:
        self.hosts.require(url)
        # A length is that of the file only where nothing is compressed on the way.
        asked = {"Accept-Encoding": "identity"} | headers
        if offset:
            asked["Range"] = f"bytes={offset}-"
            asked |= {"If-Range": validator} if validator else {}
        with self._asking(url):
            response = self._session().get(url, headers=asked, stream=True, timeout=(CONNECT_S, self._timeout_s))
        with response:
            if response.status_code == 416:
                # The file is shorter than what is here of it: it is another one.
                yield Body(-1, None, None, iter(()))
                return
            if response.status_code not in (200, 206):
                raise _refusal(response)
            start, size = 0, response.headers.get("Content-Length", "")
            if response.status_code == 206:
                told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
                if told is None:
                    raise FetchError("the server sends a part without saying which")
                start, size = int(told[1]), told[2]
            yield Body(start, int(size) if size.isdecimal() else None, _http_validator(response), self._parts(response))

    def _parts(self, response: Any) -> Iterator[bytes]:
        while True:
            with self._asking(response.url):
                # What has come, and not only what fills a chunk: a slow server is noticed, a broken one loses nothing.
                chunk = response.raw.read1(CHUNK)
            if not chunk:
                return
            yield chunk

    @contextlib.contextmanager
    def _asking(self, url: str) -> Iterator[None]:
        import requests
        import urllib3

        try:
            yield
        except requests.TooManyRedirects:
            raise FetchError("the server redirects without end") from None
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL):
            raise FetchError("it is, or the server redirects to, no address of the web") from None
        except requests.exceptions.SSLError:
            raise FetchError("the server's certificate is not trusted") from None
        except (requests.ReadTimeout, urllib3.exceptions.TimeoutError):
            raise too_slow(self._timeout_s) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError):
            self.hosts.doubt(url)
            raise FetchError("the connection broke off", again=True) from None
        except ValueError:  # of urllib, of brackets that do not close or what is no UTF-8
            raise FetchError("it is, or the server redirects to, no address of the web") from None

    def _session(self) -> Any:
        import requests

        if not hasattr(self._thread, "session"):
            self._thread.session = requests.Session()
            self._thread.session.max_redirects = _MAX_REDIRECTS
        return self._thread.session

    @contextlib.contextmanager
    def _open_fsspec(self, url: str, offset: int) -> Iterator[Body]:
        with self._reading():
            fs, path = self._filesystem(url)
            size, version = _state(fs, path)
        yield Body(offset, size, version, self._blocks(fs, path, offset, size, version))

    def _blocks(self, fs: Any, path: str, offset: int, size: int, version: str) -> Iterator[bytes]:
        for start in range(offset, size, BLOCK):
            with self._reading():
                block = fs.cat_file(path, start=start, end=min(start + BLOCK, size))
            yield block
        if size - offset > BLOCK:
            with self._reading():
                changed = _state(fs, path)[1] != version
            if changed:
                raise FetchError("it changes while it is read", again=True, anew=True)

    def _filesystem(self, url: str) -> tuple[Any, str]:
        import fsspec

        options: dict[str, Any] = {}
        if url.startswith(("s3://", "s3a://")):
            limits = {"connect_timeout": CONNECT_S, "read_timeout": self._timeout_s, "retries": {"max_attempts": 0}}
            options = {"config_kwargs": limits}
        fs, path = fsspec.core.url_to_fs(url, **options)
        if options:
            self.hosts.require(fs.s3.meta.endpoint_url)
        return fs, path

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Faults of other people's file systems, whose exceptions are of many kinds, in our words."""
        try:
            yield
        except FetchError:
            raise
        except (FileNotFoundError, IsADirectoryError):
            raise FetchError("there is no such file") from None
        except PermissionError:
            raise FetchError("reading it is not allowed") from None
        except ImportError as error:
            raise InputError(f"source.yaml: {' '.join(str(error).split())}") from None
        except Exception as error:
            from botocore.exceptions import NoCredentialsError, PartialCredentialsError
            from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

            if isinstance(error, NoCredentialsError | PartialCredentialsError):
                mend = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true for a public bucket"
                raise FetchError(f"there are no credentials for it; {mend}") from None
            if isinstance(error, EntryNotFoundError | RepositoryNotFoundError | RevisionNotFoundError):
                raise FetchError("the hub has no such dataset, revision or folder") from None
            raise FetchError(f"reading it failed ({type(error).__name__})", again=True) from None


def too_slow(timeout_s: float) -> FetchError:
    """The fault of a file that comes too slowly, or not at all."""
    return FetchError(f"next to nothing came for {timeout_s:g} s; STILLMOTION_FETCH_TIMEOUT sets how long", again=True)


def _state(fs: Any, path: str) -> tuple[int, str]:
    """The size of a file, and what changes when the file does."""
    fs.invalidate_cache()
    info = fs.info(path)
    if info["type"] == "directory":
        raise IsADirectoryError
    if info.get("size") is None:
        raise FetchError("its size is not told")
    return info["size"], hashlib.sha256(str(info).encode()).hexdigest()


def _hub_match(url: str) -> re.Match[str]:
    match = HUB.fullmatch(url)
    assert match is not None, "check_address let it pass"
    return match


def _hub_url(url: str) -> str:
    from huggingface_hub import hf_hub_url

    match = _hub_match(url)
    revision = urllib.parse.unquote(match["revision"])
    return hf_hub_url(match["name"], match["path"], repo_type="dataset", revision=revision)


def _http_validator(response: Any) -> str | None:
    """The strong ETag, or else the date of the last change; a weak ETag does not tell bytes apart."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _refusal(response: Any) -> FetchError:
    status = response.status_code
    known = status in http.HTTPStatus.__members__.values()
    told = f"the server answers {status}" + (f" ({http.HTTPStatus(status).phrase})" if known else "")
    if status not in _BUSY and status < 500:
        return FetchError(told)
    return FetchError(told, again=True, wait_s=_retry_after(response.headers.get("Retry-After", "")))


def _retry_after(header: str) -> float:
    if header.isdecimal():
        return float(header)
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    return 0.0
