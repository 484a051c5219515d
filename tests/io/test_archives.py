import io
import stat
import tarfile
import zipfile

import pytest

from stillmotion.errors import InputError, machine_refusal
from stillmotion.io import archives
from stillmotion.io.archives import safe_path, unpack


@pytest.fixture
def refused(tmp_path):
    """The error of an archive; nothing of it may stay, nor lie beside the folder."""

    def run(archive, **limits) -> str:
        (tmp_path / "out").mkdir(exist_ok=True)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InputError) as caught:
            unpack(archive, tmp_path / "out" / "folder", title="the archive", **{"max_bytes": 1 << 40} | limits)
        assert sorted(tmp_path.rglob("*")) == before
        return str(caught.value)

    return run


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path, *entries, mode="w"):
    with tarfile.open(path, mode) as archive:
        for entry, content in entries:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def entry(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_unpacked_whatever_its_compression_and_its_name(tmp_path, mode):
    entries = (entry("./"), b""), (entry("./a.mp4"), b"abc"), (entry("sub/b.mp4"), b"x" * 3_000_000)
    entries[0][0].type = tarfile.DIRTYPE
    unpack(tarred(tmp_path / "0123abc", *entries, mode=mode), tmp_path / "out", title="it", max_bytes=1 << 30)
    assert contents(tmp_path / "out") == {"a.mp4": b"abc", "sub/b.mp4": b"x" * 3_000_000}
    assert stat.S_IMODE((tmp_path / "out" / "a.mp4").stat().st_mode) == 0o444


def test_a_zip_is_unpacked_whatever_its_name(tmp_path):
    archive = zipped(tmp_path / "0123abc", {"sub/": "", "sub/ä b.mp4": "abc", "c.mp4": ""})
    unpack(archive, tmp_path / "out", title="it", max_bytes=1 << 30)
    assert contents(tmp_path / "out") == {"sub/ä b.mp4": b"abc", "c.mp4": b""}


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil", "c:/evil", "a/..", "a\nb"]
)
def test_a_member_that_leads_out_of_the_folder_is_refused(tmp_path, refused, name):
    for archive in (zipped(tmp_path / "z", {"ok": "1", name: "x"}), tarred(tmp_path / "t", (entry(name), b"x"))):
        assert refused(archive) == f"the archive: the member {name!r} leads out of the folder; unpack it by hand"
    assert safe_path(name) is None


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_a_link_or_a_device_in_a_tar_is_refused(tmp_path, refused, kind, told):
    archive = tarred(tmp_path / "t", (entry("a.mp4"), b"abc"), (entry("b", kind, "a.mp4"), b""))
    assert refused(archive) == f"the archive: the member 'b' is {told}, no file; unpack it by hand"


@pytest.mark.parametrize(("mode", "told"), [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "a device")])
def test_a_link_or_a_device_in_a_zip_is_refused(tmp_path, refused, mode, told):
    info = zipfile.ZipInfo("b")
    info.external_attr = (mode | 0o777) << 16
    assert f"'b' is {told}" in refused(zipped(tmp_path / "z", {info: "/etc/passwd"}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path, refused):
    archive = tmp_path / "z"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a", "1")
        opened.writestr("./a", "2")
    assert "'a' is there twice" in refused(archive)
    assert "no zip or tar archive" in refused(zipped(archive, {"a": "1", "a/b": "2"}))


def test_an_archive_that_fills_the_disk_is_stopped_in_time(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(archives, "ALWAYS_BYTES", 1 << 20)
    zeros = b"\0" * (8 << 20)
    for archive in (
        zipped(tmp_path / "z", {"a": zeros[: 1 << 19], "b": zeros}),
        tarred(tmp_path / "t", (entry("a"), zeros), mode="w:gz"),
    ):
        size = archive.stat().st_size
        assert size * 100 < 1 << 20
        assert refused(archive).startswith(
            f"the archive: unpacks to more than {1 << 20} bytes, of an archive of {size};"
        )
    plain = tarred(tmp_path / "plain", (entry("a"), zeros))
    assert refused(plain, max_bytes=1000).startswith("the archive: unpacks to more than 1000 bytes")
    unpack(plain, tmp_path / "all", title="it", max_bytes=8 << 20)


def test_what_is_no_archive_or_half_of_one_is_told(tmp_path, refused):
    whole = tarred(tmp_path / "t", (entry("a"), bytes(range(256)) * 4000), mode="w:gz").read_bytes()
    packed = zipped(tmp_path / "z", {"a": bytes(range(256)) * 4000}).read_bytes()
    spoilt = packed[:100] + b"\0\0\0\0\0\0\0\0" + packed[108:]
    for content in (b"<html>sign in</html>", b"", whole[: len(whole) // 2], packed[: len(packed) // 2], spoilt):
        (tmp_path / "x").write_bytes(content)
        assert refused(tmp_path / "x").startswith("the archive: no zip or tar archive that is whole (")


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_zip_with_a_name_that_is_not_the_utf_8_it_claims_to_be_is_told(tmp_path, refused, place):
    archive = zipped(tmp_path / "a.zip", {"é.mp4": b"abc"})  # named before the member, and in the list at the end
    content = archive.read_bytes()
    at = content.find("é".encode()) if place == "first" else content.rfind("é".encode())
    archive.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    assert refused(archive) == "the archive: no zip or tar archive that is whole (UnicodeDecodeError)"


def test_a_zip_whose_member_has_no_name_or_no_place_is_told(tmp_path, refused):
    whole = zipped(tmp_path / "a.zip", {"?": b"abc"}).read_bytes()
    (tmp_path / "x").write_bytes(whole.replace(b"?", b"\0"))
    assert refused(tmp_path / "x") == "the archive: the member '' leads out of the folder; unpack it by hand"
    content = bytearray(whole)
    end = content.rfind(b"PK\5\6")
    start = int.from_bytes(content[end + 16 : end + 20], "little")
    content[end + 16 : end + 20] = (start + 9).to_bytes(4, "little")  # of the list: what is 9 bytes before all
    (tmp_path / "x").write_bytes(content)
    assert refused(tmp_path / "x") == "the archive: no zip or tar archive that is whole (OSError)"


def test_a_file_is_not_taken_for_broken_where_the_disk_is_full(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "z", {"a": "1"})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_copy", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        unpack(archive, tmp_path / "out", title="it", max_bytes=1 << 30)
    assert machine_refusal(caught.value).startswith(f"{tmp_path / 'out'}: no space left on device; free some space")
    assert not (tmp_path / "out").exists()


@pytest.mark.real
def test_a_real_zip_is_unpacked(real_material, tmp_path):
    archive = real_material / "msrvtt" / "test_videodatainfo.json.zip"
    unpack(archive, tmp_path / "out", title="it", max_bytes=1 << 30)
    with zipfile.ZipFile(archive) as opened:
        assert contents(tmp_path / "out") == {info.filename: opened.read(info) for info in opened.infolist()}
