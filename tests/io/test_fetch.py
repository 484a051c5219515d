"""Fetching from servers on loopback that misbehave."""

import hashlib
import json
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stillmotion.errors import InputError
from stillmotion.io import addresses, fetch, fetch_store
from stillmotion.io.addresses import FetchError
from stillmotion.io.fetch import fetch_all
from stillmotion.io.fetch_store import Fetched, Wanted
from stillmotion.io.transport import Transport

CONTENT = bytes(range(256)) * 400
"""Of 102,400 bytes."""
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def get(tmp_path):
    """Fetch as one process would, and tell the answers in the order of what was wanted."""

    def run(*wanted: Wanted, timeout_s: float = 5, max_bytes: int = 1 << 30) -> list[Fetched | FetchError]:
        transport = Transport(timeout_s=timeout_s)
        root = tmp_path / "fetched"
        answers = fetch_all(wanted, root, transport, parallel=4, timeout_s=timeout_s, max_bytes=max_bytes)
        return [answers[one] for one in wanted]

    return run


def reason(answer) -> str:
    assert isinstance(answer, FetchError)
    return answer.reason


def started(root: Path, url: str, content: bytes, *, validator: str | None, size: int | None, sha256=None) -> None:
    """What a killed process leaves of a file that was on its way."""
    key = Wanted(url, sha256).key
    (root / "fetched" / "partial").mkdir(parents=True)
    (root / "fetched" / "partial" / key).write_bytes(content)
    about = {"validator": validator, "size": size}
    (root / "fetched" / "partial" / f"{key}.json").write_text(json.dumps(about))


def test_a_file_lies_under_its_digest_and_is_not_asked_for_again(site, get, tmp_path):
    site.files["/a.mp4"] = CONTENT
    stated, plain = Wanted(f"{site.url}/a.mp4", DIGEST), Wanted(f"{site.url}/a.mp4")
    (first,) = get(plain)
    assert first == Fetched(tmp_path / "fetched" / "content" / DIGEST[:2] / DIGEST, DIGEST)
    assert first.file.read_bytes() == CONTENT
    assert stat.S_IMODE(first.file.stat().st_mode) == 0o444
    assert get(plain) == [first]
    assert get(stated) == [first]
    assert site.requests["/a.mp4"] == 1
    assert not list((tmp_path / "fetched" / "partial").iterdir())


def test_two_addresses_with_one_stated_digest_are_fetched_once(site, get):
    site.files["/a.mp4"] = site.files["/mirror.mp4"] = CONTENT
    answers = get(Wanted(f"{site.url}/a.mp4", DIGEST), Wanted(f"{site.url}/mirror.mp4", DIGEST))
    assert answers[0] == answers[1]
    assert site.requests.total() == 1


def test_a_connection_that_breaks_is_resumed_where_it_broke(site, get):
    site.files["/a.mp4"] = CONTENT
    site.faults["/a.mp4"] = ["break 1000", "break 50000"]
    (answer,) = get(Wanted(f"{site.url}/a.mp4"))
    assert answer.file.read_bytes() == CONTENT
    assert site.sent["/a.mp4"] == len(CONTENT)
    asked = [headers.get("range") for path, headers in site.headers if path == "/a.mp4"]
    assert asked == [None, "bytes=1000-", "bytes=51000-"]
    assert site.headers[1][1]["if-range"].startswith('"')


def test_tries_that_bring_something_are_not_counted(site, get):
    site.files["/a.mp4"] = CONTENT
    site.faults["/a.mp4"] = ["break 10000"] * 9
    (answer,) = get(Wanted(f"{site.url}/a.mp4"))
    assert answer.file.read_bytes() == CONTENT
    assert site.sent["/a.mp4"] == len(CONTENT)


def test_a_server_without_ranges_begins_anew_and_is_given_up_after_five_tries(site, get):
    site.ranges = False
    site.files["/a.mp4"] = site.files["/b.mp4"] = CONTENT
    site.faults["/a.mp4"] = ["break 1000", "break 500"]
    site.always["/b.mp4"] = "break 1000"
    good, bad = get(Wanted(f"{site.url}/a.mp4"), Wanted(f"{site.url}/b.mp4"))
    assert good.file.read_bytes() == CONTENT
    assert site.sent["/a.mp4"] == 1500 + len(CONTENT)
    assert reason(bad) == "the connection broke off"
    assert site.requests["/b.mp4"] == 5


@pytest.mark.parametrize("fault", ["", "ignores-if-range"])
@pytest.mark.parametrize("other", [CONTENT[::-1], CONTENT[:500], CONTENT * 2])
def test_a_file_that_changed_while_it_was_on_its_way_is_begun_anew(site, get, tmp_path, fault, other):
    site.files["/a.mp4"] = other
    site.always["/a.mp4"] = fault
    started(tmp_path, f"{site.url}/a.mp4", CONTENT[:1000], validator='"old"', size=len(CONTENT))
    (answer,) = get(Wanted(f"{site.url}/a.mp4"))
    assert answer.file.read_bytes() == other


def test_what_a_killed_process_left_is_gone_on_with(site, get, tmp_path):
    site.files["/a.mp4"] = CONTENT
    tag = f'"{hash(CONTENT)}"'
    started(tmp_path, f"{site.url}/a.mp4", CONTENT[:60_000], validator=tag, size=len(CONTENT))
    (answer,) = get(Wanted(f"{site.url}/a.mp4"))
    assert answer.file.read_bytes() == CONTENT
    assert site.sent["/a.mp4"] == len(CONTENT) - 60_000


def test_a_file_that_had_come_whole_is_not_asked_for_again(site, get, tmp_path):
    started(tmp_path, f"{site.url}/a.mp4", CONTENT, validator=None, size=len(CONTENT), sha256=DIGEST)
    (answer,) = get(Wanted(f"{site.url}/a.mp4", DIGEST))
    assert answer.file.read_bytes() == CONTENT
    assert not site.requests


def test_without_a_tag_and_a_digest_nothing_is_pieced_together(site, get, tmp_path):
    site.tags = False
    site.files["/a.mp4"] = CONTENT
    started(tmp_path, f"{site.url}/a.mp4", b"x" * 1000, validator=None, size=len(CONTENT))
    (answer,) = get(Wanted(f"{site.url}/a.mp4"))
    assert answer.file.read_bytes() == CONTENT
    assert site.sent["/a.mp4"] == len(CONTENT)


def test_pieces_that_do_not_fit_the_digest_are_fetched_again_as_a_whole(site, get, tmp_path):
    site.tags = False
    site.files["/a.mp4"] = CONTENT
    started(tmp_path, f"{site.url}/a.mp4", b"x" * 1000, validator=None, size=len(CONTENT), sha256=DIGEST)
    (answer,) = get(Wanted(f"{site.url}/a.mp4", DIGEST))
    assert answer.file.read_bytes() == CONTENT
    assert site.requests["/a.mp4"] == 2


def test_a_wrong_digest_is_told_and_nothing_is_kept(site, get, tmp_path):
    site.files["/a.mp4"] = CONTENT
    (answer,) = get(Wanted(f"{site.url}/a.mp4", "0" * 64))
    assert reason(answer) == f"its SHA-256 is {DIGEST}, not the {'0' * 64} that is stated"
    assert site.requests["/a.mp4"] == 1
    assert not [path for path in (tmp_path / "fetched").rglob("*") if path.is_file()]


def test_what_the_server_refuses_is_not_asked_for_again(site, get):
    site.always |= {"/gone.mp4": "410", "/secret.mp4": "403", "/odd.mp4": "499"}
    names = ("/none.mp4", "/gone.mp4", "/secret.mp4", "/odd.mp4")
    answers = get(*(Wanted(site.url + name) for name in names))
    assert list(map(reason, answers)) == [
        "the server answers 404 (Not Found)",
        "the server answers 410 (Gone)",
        "the server answers 403 (Forbidden)",
        "the server answers 499",
    ]
    assert all(site.requests[name] == 1 for name in names)


def test_a_server_that_is_busy_is_asked_again(site, get):
    site.files["/a.mp4"] = site.files["/b.mp4"] = CONTENT
    site.faults |= {"/a.mp4": ["500", "503", "429"], "/b.mp4": ["500"] * 9}
    good, bad = get(Wanted(f"{site.url}/a.mp4"), Wanted(f"{site.url}/b.mp4"))
    assert good.sha256 == DIGEST
    assert site.requests["/a.mp4"] == 4
    assert reason(bad) == "the server answers 500 (Internal Server Error)"
    assert site.requests["/b.mp4"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("after", ["1", "date"])
def test_a_busy_server_is_left_alone_for_as_long_as_it_says(site, get, after):
    if after == "date":
        after = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    site.files["/a.mp4"] = CONTENT
    site.faults["/a.mp4"] = [f"429 Retry-After: {after}"]
    began = time.monotonic()
    (answer,) = get(Wanted(f"{site.url}/a.mp4"))
    assert answer.sha256 == DIGEST
    assert time.monotonic() - began >= 0.9


def test_a_server_that_wants_to_be_left_alone_for_an_hour_is_given_up(site, get):
    site.always["/a.mp4"] = "503 Retry-After: 3600"
    (answer,) = get(Wanted(f"{site.url}/a.mp4"))
    assert reason(answer) == "the server answers 503 (Service Unavailable)"
    assert site.requests["/a.mp4"] == 1


def test_waits_double_and_differ_from_file_to_file(monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.5)
    files = [Wanted(f"http://example.org/{number}") for number in range(50)]
    for tries, longest in ((1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (20, 30.0)):
        waits = [fetch._wait_s(one, tries) for one in files]
        assert longest / 2 <= min(waits) < max(waits) <= longest
        assert len(set(waits)) > 25
        assert waits == [fetch._wait_s(one, tries) for one in files]


@pytest.mark.parametrize("fault", ["wait 9", "drip 0.05"])
def test_a_server_that_is_stuck_names_the_setting(site, get, monkeypatch, fault):
    monkeypatch.setattr(fetch, "TRIES", 1)
    site.files["/a.mp4"] = CONTENT
    site.always["/a.mp4"] = fault
    began = time.monotonic()
    (answer,) = get(Wanted(f"{site.url}/a.mp4"), timeout_s=0.5)
    assert reason(answer) == "next to nothing came for 0.5 s; STILLMOTION_FETCH_TIMEOUT sets how long"
    assert time.monotonic() - began < 5


def test_a_file_that_is_longer_than_it_may_be_is_refused(site, get):
    site.files["/a.mp4"] = site.files["/chunked.mp4"] = CONTENT
    site.always["/chunked.mp4"] = "chunked"
    for name in ("/a.mp4", "/chunked.mp4"):
        stated, capped, short, right = get(
            Wanted(site.url + name, size=102_399),
            Wanted(f"{site.url}{name}?2", size=None),
            Wanted(f"{site.url}{name}?3", size=102_401),
            Wanted(f"{site.url}{name}?4", size=102_400),
            max_bytes=1000,
        )
        assert reason(stated) == "it is longer than the 102399 bytes that are stated"
        assert reason(capped) == "it is longer than the 1000 bytes that max_bytes of source.yaml allows"
        assert reason(short) == "it is shorter than the 102401 bytes that are stated"
        assert right.sha256 == DIGEST


def test_a_body_of_unknown_length_that_breaks_off_is_not_taken_for_whole(site, get):
    site.files["/a.mp4"] = CONTENT
    site.faults["/a.mp4"] = ["chunked break"]
    (answer,) = get(Wanted(f"{site.url}/a.mp4"))
    assert answer.sha256 == DIGEST
    assert site.requests["/a.mp4"] == 2


def test_what_follows_the_stated_length_is_no_part_of_this_file_or_the_next(site, get):
    site.files |= {"/a.mp4": CONTENT, "/b.mp4": CONTENT[::-1]}
    site.always["/a.mp4"] = "says 1000"
    for name, content in (("/a.mp4", CONTENT[:1000]), ("/b.mp4", CONTENT[::-1])):
        (answer,) = get(Wanted(site.url + name))
        assert answer.file.read_bytes() == content


def test_redirects_are_followed_but_not_without_end_nor_off_the_web(site, get, tmp_path):
    (tmp_path / "secret").write_text("secret")
    site.files["/a.mp4"] = CONTENT
    site.always |= {
        "/here.mp4": "302 Location: /a.mp4",
        "/loop.mp4": "302 Location: /loop.mp4",
        "/file.mp4": f"302 Location: file://{tmp_path}/secret",
        "/half.mp4": "302 Location: http://[::1/a.mp4",
        "/latin.mp4": "302 Location: /\xe9.mp4",
    }
    names = ("here", "loop", "file", "half", "latin")
    here, loop, file, *odd = get(*(Wanted(f"{site.url}/{name}.mp4") for name in names))
    assert here.sha256 == DIGEST
    assert reason(loop) == "the server redirects without end"
    assert {reason(answer) for answer in (file, *odd)} == {"it is, or the server redirects to, no address of the web"}
    assert site.requests["/loop.mp4"] == 11


def test_an_empty_file_is_a_file(site, get):
    site.files["/a.mp4"] = b""
    (answer,) = get(Wanted(f"{site.url}/a.mp4"))
    assert answer.file.read_bytes() == b""


@pytest.mark.slow
def test_a_host_without_a_server_is_told_in_seconds_however_many_files_it_has(get):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        began = time.monotonic()
        answers = get(*(Wanted(f"{url}/{number}") for number in range(100)))
        assert {reason(answer) for answer in answers} == {"127.0.0.1 can't be reached"}
        assert time.monotonic() - began < 6


@pytest.mark.slow
def test_a_host_whose_name_is_not_found_is_told_in_seconds_even_where_the_resolver_hangs(get, monkeypatch):
    def hang(*_, **__):
        time.sleep(3)
        raise OSError

    monkeypatch.setattr(addresses.socket, "create_connection", hang)
    monkeypatch.setattr(addresses, "CONNECT_S", 1.0)
    began = time.monotonic()
    (answer,) = get(Wanted("http://no-such-host.invalid/a.mp4"))
    assert reason(answer) == "no-such-host.invalid can't be reached"
    assert time.monotonic() - began < 2.5


@pytest.mark.slow
def test_a_host_that_goes_away_while_files_are_fetched_is_told_in_seconds(get):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        def answer_once_and_go() -> None:
            server.accept()[0].close()  # whether it can be reached
            server.accept()[0].close()  # the first file
            server.close()

        threading.Thread(target=answer_once_and_go, daemon=True).start()
        began = time.monotonic()
        answers = get(*(Wanted(f"{url}/{number}") for number in range(50)))
    assert {reason(answer) for answer in answers} <= {"127.0.0.1 can't be reached", "the connection broke off"}
    assert time.monotonic() - began < 8


def test_a_user_and_a_password_are_sent_and_not_shown(site, get):
    site.files["/a.mp4"] = CONTENT
    url = site.url.replace("http://", "http://me:pass@") + "/a.mp4?signature=abc"
    assert get(Wanted(url))[0].sha256 == DIGEST
    assert site.headers[0][1]["authorization"] == "Basic bWU6cGFzcw=="
    assert addresses.shown(url) == f"{site.url}/a.mp4?…"


def test_two_processes_that_want_the_same_file_fetch_it_once(site, get):
    site.files["/a.mp4"] = CONTENT
    site.always["/a.mp4"] = "wait 0.5"
    answers = []
    threads = [threading.Thread(target=lambda: answers.extend(get(Wanted(f"{site.url}/a.mp4")))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.sha256 for answer in answers} == {DIGEST}
    assert site.requests["/a.mp4"] == 1


def test_a_file_that_is_not_what_was_fetched_is_fetched_again(site, get, caplog):
    site.files["/a.mp4"] = CONTENT
    (first,) = get(Wanted(f"{site.url}/a.mp4"))
    first.file.chmod(0o644)
    first.file.write_bytes(CONTENT[:-1])
    assert get(Wanted(f"{site.url}/a.mp4")) == [first]
    assert first.file.read_bytes() == CONTENT
    assert "not the bytes that were fetched" in caplog.text


def test_a_full_disk_is_told_with_the_folder(site, get, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch_store.os, "fsync", full)
    site.files["/a.mp4"] = CONTENT
    with pytest.raises(InputError) as caught:
        get(Wanted(f"{site.url}/a.mp4"))
    assert str(caught.value) == (
        f"{tmp_path / 'fetched'}: can't be written (No space left on device); "
        "make room, or set STILLMOTION_MEMO to another folder"
    )


def test_what_is_on_its_way_can_be_gone_on_with_by_who_is_not_root(site, get, tmp_path, monkeypatch):
    site.files["/a.mp4"], replace = CONTENT, Path.replace

    def killed(path, target):
        if path.name.startswith("."):  # what is said of it
            return replace(path, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            get(Wanted(f"{site.url}/a.mp4", DIGEST))
    on_its_way = [path for path in (tmp_path / "fetched" / "partial").iterdir() if path.suffix != ".json"]
    assert [path.stat().st_mode & 0o600 for path in on_its_way] == [0o600]
    (found,) = get(Wanted(f"{site.url}/a.mp4", DIGEST))
    assert (found.file.read_bytes(), found.file.stat().st_mode & 0o777) == (CONTENT, 0o444)


def test_what_a_killed_process_had_fetched_is_not_asked_for_again(site, get, tmp_path):
    contents = {f"/{number}": hashlib.sha256(b"%d" % number).digest() * 2000 for number in range(40)}
    site.files |= contents
    site.always |= dict.fromkeys(contents, "wait 0.05")
    program = f"""
from pathlib import Path
from stillmotion.io.fetch import fetch_all
from stillmotion.io.fetch_store import Wanted
from stillmotion.io.transport import Transport
wanted = [Wanted(f"{site.url}/{{number}}") for number in range(40)]
fetch_all(wanted, Path("{tmp_path}/fetched"), Transport(timeout_s=5), parallel=4, timeout_s=5, max_bytes=1 << 30)
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    while len(list((tmp_path / "fetched" / "content").glob("*/*"))) < 12:
        time.sleep(0.01)
    process.kill()
    process.wait()
    whole = {path.name for path in (tmp_path / "fetched" / "content").glob("*/*")}
    assert 12 <= len(whole) < 40
    answers = get(*(Wanted(site.url + name) for name in contents))
    assert [answer.file.read_bytes() for answer in answers] == list(contents.values())
    asked = {name: site.requests[name] for name, content in contents.items()}
    assert all(asked[name] == 1 for name, content in contents.items() if hashlib.sha256(content).hexdigest() in whole)
    assert sum(asked.values()) <= 40 + 4
