"""Addresses other than those of a web server: S3, a hub, local files."""

import hashlib
import json
import time

import huggingface_hub.constants
import pytest
from moto.server import ThreadedMotoServer

from stillmotion.errors import InputError
from stillmotion.io import addresses, fetch, transport
from stillmotion.io.addresses import FetchError, check_address, shown
from stillmotion.io.fetch import fetch_all
from stillmotion.io.fetch_store import Wanted
from stillmotion.io.transport import Listed, Transport

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def get(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.01)

    def run(wanted: Wanted):
        answers = fetch_all(
            [wanted], tmp_path / "fetched", Transport(timeout_s=5), parallel=4, timeout_s=5, max_bytes=1 << 30
        )
        return answers[wanted]

    return run


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    """A client of an empty bucket called `videos`, and the settings that lead to it."""
    import boto3
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="videos")
    yield client
    for item in client.list_objects_v2(Bucket="videos").get("Contents", ()):
        client.delete_object(Bucket="videos", Key=item["Key"])


def test_an_object_of_s3_is_fetched_block_by_block(bucket, get, monkeypatch):
    monkeypatch.setattr(transport, "BLOCK", 10_000)
    bucket.put_object(Bucket="videos", Key="clips/a b.mp4", Body=CONTENT)
    answer = get(Wanted("s3://videos/clips/a b.mp4"))
    assert answer.file.read_bytes() == CONTENT


def test_an_object_that_broke_off_goes_on_from_there(bucket, get, monkeypatch):
    import s3fs

    monkeypatch.setattr(transport, "BLOCK", 10_000)
    bucket.put_object(Bucket="videos", Key="a.mp4", Body=CONTENT)
    read, starts = s3fs.S3FileSystem.cat_file, []

    def breaks_once(self, path, start=None, end=None, **more):
        starts.append(start)
        if starts == [0, 10_000, 20_000]:
            raise OSError("reset")
        return read(self, path, start=start, end=end, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "cat_file", breaks_once)
    assert get(Wanted("s3://videos/a.mp4")).file.read_bytes() == CONTENT
    assert starts == [0, 10_000, 20_000, *range(20_000, len(CONTENT), 10_000)]


def test_an_object_that_changes_while_it_is_read_is_read_again(bucket, get, monkeypatch):
    import s3fs

    monkeypatch.setattr(transport, "BLOCK", 60_000)
    bucket.put_object(Bucket="videos", Key="a.mp4", Body=CONTENT)
    read, calls = s3fs.S3FileSystem.cat_file, []

    def changes(self, path, start=None, end=None, **more):
        calls.append(start)
        if len(calls) == 2:
            bucket.put_object(Bucket="videos", Key="a.mp4", Body=CONTENT[::-1])
        return read(self, path, start=start, end=end, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "cat_file", changes)
    assert get(Wanted("s3://videos/a.mp4")).file.read_bytes() == CONTENT[::-1]


def test_what_s3_does_not_have_is_told_without_another_try(bucket, get):
    bucket.put_object(Bucket="videos", Key="folder/a.mp4", Body=b"x")
    for address in ("s3://videos/none.mp4", "s3://no-such-bucket/a.mp4", "s3://videos/folder"):
        assert get(Wanted(address)).reason == "there is no such file"


def test_a_prefix_of_s3_is_listed_at_any_depth(bucket):
    for key in ("clips/a.mp4", "clips/sub/b.mp4", "other/c.mp4"):
        bucket.put_object(Bucket="videos", Key=key, Body=b"abc")
    found = Transport(timeout_s=5).list_folder("s3://videos/clips/")
    assert sorted(found, key=lambda item: item.path) == [
        Listed("a.mp4", "s3://videos/clips/a.mp4", 3, None),
        Listed("sub/b.mp4", "s3://videos/clips/sub/b.mp4", 3, None),
    ]


@pytest.mark.slow
def test_an_s3_that_is_out_of_reach_is_told_in_seconds(get, monkeypatch):
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    began = time.monotonic()
    assert get(Wanted("s3://videos/a.mp4")).reason == "127.0.0.1 can't be reached"
    assert time.monotonic() - began < 7


def test_no_credentials_are_told_with_the_mend(endpoint, get, monkeypatch, tmp_path):
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    answer = get(Wanted("s3://videos/a.mp4"))
    assert answer.reason.startswith("there are no credentials for it; set AWS_ACCESS_KEY_ID")


def test_a_fault_of_another_store_is_not_taken_for_the_hubs(get, monkeypatch):
    class ResourceNotFoundError(Exception):  # of Azure
        pass

    def fail(self, path):
        raise ResourceNotFoundError

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.info", fail)
    assert get(Wanted("memory://a.mp4")).reason == "reading it failed (ResourceNotFoundError)"


def test_a_local_file_is_an_address_too(get, tmp_path):
    (tmp_path / "a.mp4").write_bytes(CONTENT)
    assert get(Wanted(f"file://{tmp_path}/a.mp4")).file.read_bytes() == CONTENT


@pytest.fixture
def hub(site, monkeypatch):
    """A hub on loopback with one dataset of two files."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", site.url)
    template = site.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    digest = hashlib.sha256(CONTENT).hexdigest()
    rows = [
        {"type": "file", "path": "clips/a.mp4", "size": len(CONTENT), "oid": "1", "lfs": lfs(digest, len(CONTENT))},
        {"type": "file", "path": "clips/list.csv", "size": 3, "oid": "2"},
        {"type": "directory", "path": "clips/sub", "size": 0, "oid": "3"},
    ]
    site.files |= {
        "/api/datasets/us/films/tree/v1/clips": json.dumps(rows).encode(),
        "/api/datasets/us/films/tree/v1": json.dumps(rows).encode(),
        "/datasets/us/films/resolve/v1/clips/a.mp4": CONTENT,
    }
    return site


def lfs(digest: str, size: int) -> dict:
    return {"oid": digest, "size": size, "pointerSize": 130}


def test_a_folder_of_a_hub_is_listed_with_digests_and_its_files_fetched(hub, get):
    found = Transport(timeout_s=5).list_folder("hf://datasets/us/films@v1/clips/")
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert found == [
        Listed("a.mp4", "hf://datasets/us/films@v1/clips/a.mp4", len(CONTENT), digest),
        Listed("list.csv", "hf://datasets/us/films@v1/clips/list.csv", 3, None),
    ]
    (whole, _) = Transport(timeout_s=5).list_folder("hf://datasets/us/films@v1")
    assert (whole.path, whole.url) == ("clips/a.mp4", found[0].url)
    hub.faults["/datasets/us/films/resolve/v1/clips/a.mp4"] = ["break 1000"]
    assert get(Wanted(found[0].url, found[0].sha256, found[0].size)).file.read_bytes() == CONTENT
    assert hub.headers[-1][1]["range"] == "bytes=1000-"
    assert hub.headers[-1][1]["authorization"] == "Bearer hf_secret"


def test_what_a_hub_does_not_have_is_told(hub, get):
    assert get(Wanted("hf://datasets/us/films@v1/none.mp4")).reason == "the server answers 404 (Not Found)"
    hub.always["/api/datasets/us/none/tree/v1"] = "404 X-Error-Code: RepoNotFound"
    with pytest.raises(FetchError, match="the hub has no such dataset, revision or folder"):
        Transport(timeout_s=5).list_folder("hf://datasets/us/none@v1/")


@pytest.mark.slow
def test_a_hub_that_is_out_of_reach_is_told_in_seconds(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(FetchError, match=r"127\.0\.0\.1 can't be reached"):
        Transport(timeout_s=5).list_folder("hf://datasets/us/films@v1/")
    assert time.monotonic() - began < 7


def test_a_proxy_is_what_has_to_be_reached(site, get, monkeypatch):
    site.files["http://videos.invalid/a.mp4"] = CONTENT  # the whole address is what a proxy is asked for
    monkeypatch.setenv("http_proxy", site.url)
    assert get(Wanted("http://videos.invalid/a.mp4")).file.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("address", "mend"),
    [
        ("a.mp4", "is no address"),
        ("nonsense://a/b", "is no address"),
        ("http:///a.mp4", "is no address"),
        ("http://[::1/a.mp4", "is no address"),
        ("https://example.org/clips/", "is a folder, which a web server does not list"),
        ("hf://datasets/us/films/a.mp4", "names no dataset with a revision"),
        ("hf://us/films@v1/a.mp4", "names no dataset with a revision"),
    ],
)
def test_an_address_that_cannot_be_opened_is_refused(address, mend):
    with pytest.raises(ValueError, match=mend):
        check_address(address)


def test_what_may_be_secret_in_an_address_is_not_shown():
    assert (
        shown("https://me:pass@example.org:8443/a/b.mp4?X-Amz-Signature=abc#x") == "https://example.org:8443/a/b.mp4?…"
    )
    assert shown("s3://bucket/a b.mp4") == "s3://bucket/a b.mp4"
    with pytest.raises(ValueError, match="^'https://example.org/clips/' is a folder"):
        check_address("https://me:pass@example.org/clips/")


def test_a_file_system_that_is_not_installed_is_told(get):
    with pytest.raises(InputError, match=r"gcsfs"):
        get(Wanted("gs://bucket/a.mp4"))


def test_a_host_is_tried_once():
    hosts, tried = addresses.Hosts(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(addresses, "_answers", lambda host, port: tried.append((host, port)) or host == "a.invalid")
        for _ in range(2):
            hosts.require("https://a.invalid/x")
            with pytest.raises(FetchError, match=r"b\.invalid can't be reached"):
                hosts.require("http://b.invalid/x")
    assert tried == [("a.invalid", 443), ("b.invalid", 80)]
