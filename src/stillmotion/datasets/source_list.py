"""source.yaml: files of a dataset that are named by their addresses instead of lying in its folder.

data/sources/README.md says how it is written.
"""

import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from stillmotion.config.section import Count, Section
from stillmotion.config.yaml_files import read_yaml
from stillmotion.errors import InputError
from stillmotion.io.addresses import FetchError, check_address, shown
from stillmotion.io.archives import safe_path
from stillmotion.io.fetch_store import Wanted
from stillmotion.io.transport import Transport

FILE_NAME = "source.yaml"


def _address(url: str) -> str:
    check_address(url)
    return url


def _path(path: str) -> str:
    inside = safe_path(path)
    if inside is None or any(part.startswith(".") for part in inside.split("/")) or inside == FILE_NAME:
        raise ValueError(f"{path!r} can't be the place of a file below the dataset's folder; write another path")
    return inside


class Entry(Section):
    """An address, and what becomes of it."""

    url: Annotated[str, AfterValidator(_address)]
    path: Annotated[str, AfterValidator(_path)] | None = None
    """Below the dataset's folder: of the file, or of the folder for several."""
    sha256: Annotated[str, StringConstraints(to_lower=True, pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    bytes: Annotated[int, Field(ge=0)] | None = None
    unpack: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it stands for all files below the address."""
        return self.url.endswith("/") or (self.url.startswith("hf://") and self.url.count("/") == 4)


class SourceList(Section):
    """The content of source.yaml."""

    files: Annotated[list[Entry], Field(min_length=1)]
    max_bytes: Count = 1 << 36


@dataclass(frozen=True, slots=True)
class Place:
    """A file to fetch, and where it shall lie."""

    wanted: Wanted
    path: str
    """Below the dataset's folder; of an archive to unpack, of its folder, which may be empty."""
    unpack: bool = False


def read_source_list(file: Path) -> SourceList:
    """Read and check source.yaml.

    Raises:
        InputError: names the entry, and the mend.
    """
    data = read_yaml(file)
    try:
        return SourceList.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{file}: {_first_fault(error, file)}") from None


def _first_fault(error: ValidationError, file: Path) -> str:
    # A misspelt field is both unknown and missing: the unknown one says more.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    place: tuple[Any, ...] = first["loc"]
    where = ".".join(map(str, place))
    if len(place) > 1:
        where = f"files entry {place[1] + 1}" + "".join(f", {part}" for part in place[2:3])
    if first["type"] == "value_error":
        return f"{where}: {first['ctx']['error']}"
    if first["type"] == "extra_forbidden":
        fields = ", ".join((SourceList if len(place) == 1 else Entry).model_fields)
        return f"{where}: unknown; known are {fields}"
    # What stands there may be an address with a password: it is not shown.
    return f"{where or 'the whole'}: {first['msg']}; {file.parent.parent / 'README.md'} shows how it is written"


def placed(listed: SourceList, transport: Transport, *, file: Path) -> list[Place]:
    """Every single file of the list and where it shall lie; folders are asked for what is in them.

    Raises:
        InputError: a folder can't be listed, or two files have one place.
    """
    places = []
    for entry in listed.files:
        if entry.is_folder:
            places += _below(entry, transport, file=file)
            continue
        wanted = Wanted(entry.url, entry.sha256, entry.bytes)
        if entry.unpack:
            places.append(Place(wanted, entry.path or "", unpack=True))
            continue
        try:
            places.append(Place(wanted, entry.path or _path(_last_part(entry.url))))
        except ValueError:
            raise InputError(f"{file}: {shown(entry.url)} has no name of a file at its end; give it a path") from None
    seen: dict[str, str] = {}
    for place in places:
        if not place.unpack and seen.setdefault(place.path, place.wanted.url) != place.wanted.url:
            both = f"{shown(seen[place.path])} and {shown(place.wanted.url)}"
            raise InputError(f"{file}: {both} have one place, {place.path!r}; give one another path")
    return list({(place.path, place.wanted.key): place for place in places}.values())


def _last_part(url: str) -> str:
    # In a web address # and ? end the path, and a space is spelt %20; in others they are letters like any.
    if not url.startswith(("http://", "https://")):
        return url.partition("://")[2].partition("/")[2].rpartition("/")[2]
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])


def _below(entry: Entry, transport: Transport, *, file: Path) -> list[Place]:
    if entry.sha256 or entry.bytes is not None or entry.unpack:
        raise InputError(f"{file}: {shown(entry.url)} is a folder: sha256, bytes and unpack are for single files")
    try:
        found = transport.list_folder(entry.url)
    except FetchError as error:
        raise InputError(f"{file}: {shown(entry.url)} can't be listed: {error.reason}") from None
    places = []
    for item in found:
        path = safe_path(item.path)
        if path is None:
            raise InputError(f"{file}: {shown(entry.url)} holds {item.path!r}, whose name leads out of the folder")
        if not any(part.startswith(".") for part in path.split("/")):
            full = f"{entry.path}/{path}" if entry.path else path
            places.append(Place(Wanted(item.url, item.sha256, item.size), full))
    return places
