"""The server's addresses: the page, searches as JSON, videos and pictures of their frames.

A search runs in one thread of its own, one after another: models and their threads stay where they are, and memory
stays flat. The others meanwhile send videos. What a browser no longer waits for, as it types on, is not looked for.
"""

import asyncio
import mimetypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import jinja2
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from stillmotion.errors import InputError
from stillmotion.printed import one_line
from stillmotion.search.finder import Question
from stillmotion.search.query import read_sent_image
from stillmotion.search.ranking import FoundMoment
from stillmotion.serving.catalogue import Catalogue
from stillmotion.serving.guard import Guard
from stillmotion.serving.library import Library
from stillmotion.serving.playable import playable
from stillmotion.serving.running import proof

PAGE = Path(__file__).parent / "page"
STATIC = {
    "app.js": "text/javascript",
    "player.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}
LONGEST_TEXT = 2_000
LARGEST_IMAGE = 10 * 2**20
KEPT = {"Cache-Control": "private, max-age=300"}
"""Of videos and pictures, which a browser asks for again and again."""
CLIENT_GONE = 499

Name = Annotated[str, Query(pattern=r"^[A-Za-z0-9_.-]*$", max_length=200)]
VideoId = Annotated[str, Query(max_length=1_000)]
Seconds = Annotated[float | None, Query(ge=0, allow_inf_nan=False, description="Of the span of like, in seconds.")]
Top = Annotated[int, Query(ge=1, le=1_000, description="How many moments, at most.")]
Split = Annotated[Literal["", "train", "validation", "test"], Query(description="Of the videos; empty for all.")]


class Found(BaseModel):
    """A moment."""

    video_id: str
    start: float
    end: float
    """Seconds."""
    score: float
    first_clip: int
    end_clip: int
    split: str
    duration: float | None
    captions: list[str]
    video: str
    """Where it can be played."""
    picture: str | None


class Results(BaseModel):
    """What a search found, best first."""

    dataset: str
    model: str
    selection: str
    system: str | None
    num_videos: int
    notes: list[str]
    identity: str
    moments: list[Found]


class Dataset(BaseModel):
    """What can be searched."""

    name: str
    splits: dict[str, int]
    examples: list[str]


class Datasets(BaseModel):
    """All that can be searched, and which is when none is named."""

    default: str
    datasets: list[Dataset]


class Identity(BaseModel):
    """What `stillmotion search` asks, to know whether this server answers as it would itself."""

    identity: str
    proof: str


def make_app(library: Library, worker: ThreadPoolExecutor, *, names: frozenset[str], secret: str) -> FastAPI:
    """The application.

    Args:
        library: what is searched.
        worker: of one thread, which the library was opened in.
        names: by which a Host may call this machine, see `Guard`.
        secret: see `running`.
    """
    app = FastAPI(title="Stillmotion", version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(Guard, names=names)
    turn = asyncio.Lock()

    @app.exception_handler(InputError)
    async def refuse(_: Request, error: InputError) -> JSONResponse:
        return JSONResponse({"detail": one_line(error)}, 422)

    async def in_turn(request: Request, work: Callable[[], Any]) -> Any:
        async with turn:
            if await request.is_disconnected():
                return Response(status_code=CLIENT_GONE)
            return await asyncio.get_running_loop().run_in_executor(worker, work)

    def found(dataset: str, model: str, selection: str, ask: Callable[[], Question]) -> JSONResponse:
        library.refresh()
        # Before the finder: should it be a newer one, a search that compares does not take the answer.
        own = library.identity
        question, finder = ask(), library.finder(dataset, model, selection)
        catalogue, answer = library.catalogue(finder.chosen.dataset), finder.find(question)
        told = {"dataset": finder.chosen.dataset, "model": finder.chosen.model, "selection": finder.chosen.selection}
        moments = [asdict(moment) | _shown(catalogue, moment) for moment in answer.moments]
        return JSONResponse(told | asdict(answer) | {"identity": own, "moments": moments})

    @app.get("/api/search", response_model=Results)
    async def search(
        request: Request,
        q: Annotated[str | None, Query(max_length=LONGEST_TEXT, description="A text.")] = None,
        like: Annotated[VideoId, Query(description="Or a video, to find moments of others like it.")] = "",
        start: Seconds = None,
        end: Seconds = None,
        video: Annotated[VideoId, Query(description="Look in this video only.")] = "",
        split: Split = "",
        dataset: Name = "",
        model: Name = "",
        selection: Name = "",
        top: Top = 10,
    ) -> Response:
        """Moments for a text, or like a span of a video."""
        if (q is None or not q.strip()) == (not like):
            raise InputError("give one of q, a text that is not empty, and like, the id of a video")
        question = Question(text=q, like=like, start=start or 0.0, end=end, video=video, split=split, top=top)
        response: Response = await in_turn(request, lambda: found(dataset, model, selection, lambda: question))
        return response

    body = {
        "requestBody": {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
    }

    @app.post("/api/search/image", response_model=Results, openapi_extra=body)
    async def search_image(
        request: Request,
        video: Annotated[VideoId, Query(description="Look in this video only.")] = "",
        split: Split = "",
        dataset: Name = "",
        model: Name = "",
        selection: Name = "",
        top: Top = 10,
    ) -> Response:
        """Moments for an image (PNG, JPEG, WebP or GIF), which is the body."""
        if not request.headers.get("content-type", "").startswith("image/"):
            raise HTTPException(415, "send an image as the body, with its Content-Type")
        content = bytearray()
        try:
            async for part in request.stream():
                content += part
                if len(content) > LARGEST_IMAGE:
                    raise HTTPException(
                        413, f"the image is larger than {LARGEST_IMAGE // 2**20} MiB", {"Connection": "close"}
                    )
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)

        def ask() -> Question:
            return Question(image=read_sent_image(bytes(content)), video=video, split=split, top=top)

        response: Response = await in_turn(request, lambda: found(dataset, model, selection, ask))
        return response

    @app.get("/api/datasets", response_model=Datasets)
    def datasets() -> dict[str, Any]:
        """The datasets that are embedded, with how many videos of each split, and texts to begin with."""
        library.refresh()
        listed = [
            {"name": name, "splits": library.splits(name), "examples": library.catalogue(name).examples}
            for name in library.names()
        ]
        return {"default": library.default, "datasets": listed}

    @app.get("/api/identity", response_model=Identity)
    def identify(nonce: Annotated[str, Query(max_length=100)]) -> dict[str, str]:
        """A digest of all that decides an answer, and the proof of who listens here."""
        library.refresh()
        return {"identity": library.identity, "proof": proof(secret, nonce)}

    @app.head("/videos/{dataset}/{video_id:path}", include_in_schema=False)
    @app.get("/videos/{dataset}/{video_id:path}", response_class=FileResponse)
    def video_file(dataset: str, video_id: str) -> Response:
        """The file of a video, or a range of its bytes."""
        video = library.catalogue(dataset).videos.get(video_id)
        file = None if video is None else playable(library.root, dataset, video)
        if file is None:
            raise HTTPException(404, "no such video")
        kind = mimetypes.guess_type(file.name)[0] or ""
        return FileResponse(
            file, media_type=kind if kind.startswith("video/") else "application/octet-stream", headers=KEPT
        )

    @app.get("/pictures/{dataset}/{video_id:path}", response_class=Response)
    def picture(dataset: str, video_id: str, clip: Annotated[int, Query(ge=0)]) -> Response:
        """The stored frame of a clip of a video, as JPEG."""
        content = library.catalogue(dataset).picture(video_id, clip)
        if content is None:
            raise HTTPException(404, "no such picture")
        return Response(content, media_type="image/jpeg", headers=KEPT)

    static = {name: (PAGE / name).read_bytes() for name in STATIC}
    index = (PAGE / "index.html").read_text(encoding="utf-8")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(index)

    @app.api_route("/static/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    def part_of_page(name: str) -> Response:
        if name not in static:
            raise HTTPException(404)
        return Response(static[name], media_type=STATIC[name])

    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(PAGE), autoescape=True)

    @app.get("/api", include_in_schema=False)
    def described() -> HTMLResponse:
        return HTMLResponse(templates.get_template("api.html.j2").render(api=app.openapi()))

    return app


def _shown(catalogue: Catalogue, moment: FoundMoment) -> dict[str, Any]:
    """What the page shows of a moment beside its times."""
    video = catalogue.videos.get(moment.video_id)
    if video is None:
        raise InputError(
            f"data/raw/{catalogue.dataset}/tables/videos.jsonl: lacks video {moment.video_id!r}, which is embedded; "
            "run `dvc repro`"
        )
    place = quote(f"{catalogue.dataset}/{moment.video_id}", safe="/")
    middle = (moment.first_clip + moment.end_clip - 1) // 2
    return {
        "split": video.split,
        "duration": video.duration,
        "captions": catalogue.captions(moment.video_id, moment.start, moment.end),
        "video": f"/videos/{place}",
        "picture": f"/pictures/{place}?clip={middle}" if catalogue.has_pictures(moment.video_id) else None,
    }
