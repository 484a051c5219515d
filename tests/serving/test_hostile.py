"""Requests that nobody sends by mistake: each is refused or harmless, and the server answers the next one."""

import json
import logging
import socket
import struct
import time
import zlib
from urllib.parse import quote

import httpx
import pytest

OUTSIDE = b"root:"
web = httpx.Client(verify=False, trust_env=False)
"""One that reads no certificates, which takes longer than a request."""


def head(path: bytes, *lines: bytes, method: bytes = b"GET", host: bytes = b"127.0.0.1") -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: " + host, b"Connection: close", *lines, b"", b""])


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


@pytest.fixture(autouse=True)
def still_answers(running):
    yield
    assert web.get(f"{running.url}/api/search", params={"q": "a red ball"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        b"/videos/toy/../../../../../../etc/passwd",
        b"/videos/../../../../etc/passwd",
        b"/videos/toy/..%2f..%2f..%2f..%2fetc%2fpasswd",
        b"/videos/toy/%252e%252e%252f%252e%252e%252fetc%252fpasswd",
        b"/videos/toy//etc/passwd",
        b"/videos/toy/%2fetc%2fpasswd",
        b"/videos/toy/street%00.mp4",
        b"/videos/toy/..\\..\\params.yaml",
        b"/videos/%2e%2e/street",
        b"/videos/toy/file:///etc/passwd",
        b"/static/../library.py",
        b"/static/..%2flibrary.py",
        b"/pictures/toy/..%2f..%2fx?clip=0",
        b"/data/raw/toy/videos/street.mp4",
        b"/.dvc/tmp/stillmotion-serve.json",
        b"http://127.0.0.1/../../etc/passwd",
        b"//etc/passwd",
    ],
)
def test_a_path_leads_to_no_file(raw, path):
    answer = raw(head(path))
    assert 400 <= status(answer) < 500
    assert OUTSIDE not in answer


@pytest.mark.parametrize("name", ["dataset", "model", "selection"])
def test_a_name_is_no_path(running, name):
    answer = web.get(f"{running.url}/api/search", params={"q": "x", name: "../../etc"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "host", [b"evil.example", b"evil.example:80", b"127.0.0.1.evil.example", b"", b"localhost@evil.example"]
)
def test_another_name_for_this_machine_is_refused(raw, host):
    assert status(raw(head(b"/api/search?q=x", host=host))) in (400, 421)


def test_two_hosts_are_refused(raw):
    assert status(raw(head(b"/", b"Host: 127.0.0.1"))) in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "[::1]:8642"])
def test_an_address_or_localhost_is_served(running, host):
    assert web.get(running.url, headers={"Host": host}).status_code == 200


def test_what_a_page_of_another_site_asks_is_refused_but_a_link(running):
    for mode, expected in (("cors", 403), ("no-cors", 403), ("navigate", 200)):
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode}
        assert web.get(running.url, headers=headers).status_code == expected


def test_large_heads_are_refused(raw):
    assert status(raw(head(b"/", b"X: " + b"a" * 200_000))) in (0, 400, 431)
    assert status(raw(head(b"/api/search?q=" + b"a" * 200_000))) in (0, 400, 414)
    assert status(raw(head(b"/", *[b"X-%d: %s" % (number, b"a" * 100) for number in range(2_000)]))) in (0, 400, 431)


def test_a_very_long_text_is_refused_and_a_long_one_is_not(running):
    assert web.get(f"{running.url}/api/search", params={"q": "x" * 2_001}).status_code == 422
    assert web.get(f"{running.url}/api/search", params={"q": "\N{GRINNING FACE}" * 2_000}).status_code == 200


def test_a_text_that_is_not_utf_8_is_looked_for_all_the_same(raw):
    for text in (b"%ff%fe%80", b"%00", b"%ed%a0%80", b"%1b[31m"):
        assert status(raw(head(b"/api/search?q=" + text))) in (200, 422)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=5-3", (400, 416)),
        ("bytes=99999999-", (416,)),
        ("bytes=-0", (416,)),
        ("bytes=a-b", (200, 400, 416)),
        ("lines=0-1", (200, 400)),
        ("bytes", (200, 400)),
        ("bytes=0-0,0-0,0-0", (200, 206)),
        ("bytes=" + ",".join("0-" for _ in range(1_000)), (200, 206, 400, 416)),
        ("bytes=0-99999999999999999999999999999", (206, 416)),
        ("bytes=" + "9" * 5_000 + "-", (200, 400, 416)),
    ],
)
def test_odd_ranges_never_send_more_than_the_file(running, asked, expected):
    whole = len(web.get(f"{running.url}/videos/toy/street").content)
    answer = web.get(f"{running.url}/videos/toy/street", headers={"Range": asked})
    assert answer.status_code in expected
    assert len(answer.content) <= whole


def png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be so large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    form = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", form) + chunk(b"IDAT", zlib.compress(b"\0" * 1_000)) + chunk(b"IEND", b"")
    )


def test_bodies_that_are_no_image_are_refused(running):
    url, image = f"{running.url}/api/search/image", {"Content-Type": "image/png"}
    assert web.post(url, content=b"x" * 11 * 2**20, headers=image).status_code == 413
    assert web.post(url, content=(b"x" * 2**20 for _ in range(11)), headers=image).status_code == 413
    assert "pixels" in web.post(url, content=png(8_000, 8_000), headers=image).json()["detail"]
    for content in (
        png(60_000, 60_000),
        b"",
        b"<svg onload=alert(1)>",
        png(10, 10)[:40],
        png(100, 100),
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
    ):
        assert web.post(url, content=content, headers=image).status_code == 422
    assert web.post(url, content=png(10, 10), headers={"Content-Type": "text/html"}).status_code == 415
    assert web.post(url, files={"file": png(10, 10)}).status_code == 415


def test_who_hangs_up_while_an_image_is_sent_leaves_no_traceback(running, caplog):
    log = logging.getLogger("uvicorn.error")
    log.addHandler(caplog.handler)
    try:
        with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
            lines = (b"Content-Type: image/png", b"Content-Length: 1000")
            connection.sendall(head(b"/api/search/image", *lines, method=b"POST") + b"half")
        time.sleep(0.3)
    finally:
        log.removeHandler(caplog.handler)
    assert not caplog.records


def test_other_methods_are_refused(running, raw):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = web.request(method, f"{running.url}/videos/toy/street", headers={"X-HTTP-Method-Override": "GET"})
        assert answer.status_code == 405
    assert status(raw(head(b"/", method=b"TRACE"))) == 405
    assert status(raw(head(b"127.0.0.1:22", method=b"CONNECT"))) in (400, 404, 405)
    assert status(raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")) in (0, 400)


def test_two_requests_in_one_are_not_told_apart_by_a_second_length(raw):
    both = head(b"/api/search/image", b"Content-Length: 4", b"Transfer-Encoding: chunked", method=b"POST")
    assert status(raw(both + b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n")) in (400, 415, 422)


def test_numbers_that_are_none_are_refused(running):
    for name in ("top", "start", "end"):
        for value in ("nan", "inf", "-1", "1e999", "x", "9" * 400):
            answer = web.get(f"{running.url}/api/search", params={"like": "street", name: value})
            assert answer.status_code == 422, (name, value)


def test_markup_stays_text_in_every_answer(running):
    found = web.get(f"{running.url}/api/search", params={"q": "x", "dataset": "mine"})
    assert found.headers["content-type"] == "application/json"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert "script-src 'self'" in found.headers["content-security-policy"]
    row = next(row for row in found.json()["moments"] if "script" in row["video_id"])
    assert row["video"] == "/videos/mine/" + quote(row["video_id"])
    assert web.get(running.url + row["video"]).headers["content-type"] == "video/mp4"
    wrong = web.get(f"{running.url}/api/search", params={"like": "<script>"})
    assert wrong.headers["content-type"] == "application/json"
    assert "<script>" in json.loads(wrong.text)["detail"]
