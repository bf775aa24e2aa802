"""The routes of files and fine-tuning jobs. All work is done by the desk of the jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from lorita.errors import UserError
from lorita.jobs.desk import Desk
from lorita.jobs.refusals import Conflict, Missing, QueueFull, Refused
from lorita.serving.api_errors import ApiError, conflict, from_validation, invalid, not_found
from lorita.serving.job_schema import (
    CheckpointQuery,
    FileQuery,
    JobQuery,
    JobRequest,
    Nothing,
    PageQuery,
)
from lorita.serving.job_shapes import (
    checkpoint_shape,
    event_shape,
    file_shape,
    job_shape,
    page_shape,
)
from lorita.serving.reading import read
from lorita.serving.upload import Uploads

if TYPE_CHECKING:
    from lorita.jobs.records import Job

T = TypeVar("T")
Query = TypeVar("Query", bound=BaseModel)
BINARY = "application/octet-stream"
_METADATA = re.compile(r"metadata\[([^\]]{1,64})\]")


def add_job_routes(app: FastAPI, desk: Desk | None) -> None:
    """Files and jobs; without a ``desk``, these addresses say how to get one."""
    if desk is None:
        _add_refusals(app)
        return
    _add_file_routes(app, desk)
    _add_job_routes(app, desk)
    _add_job_lists(app, desk)

    @app.delete("/v1/models/{name:path}")
    async def delete(name: str) -> dict[str, Any]:
        await done(lambda: desk.delete_model(name))
        return {"id": name, "object": "model", "deleted": True}


def _add_refusals(app: FastAPI) -> None:
    async def refused(request: Request) -> Response:
        raise not_found(
            "This server keeps no files and trains nothing. Start it with --watch FOLDER, and "
            "without --no-jobs.",
            "jobs_not_served",
        )

    for path in ("/v1/files", "/v1/fine_tuning"):
        for route in (path, path + "/{rest:path}"):
            app.add_api_route(route, refused, methods=["GET", "POST", "DELETE"])


def _add_file_routes(app: FastAPI, desk: Desk) -> None:
    uploads = Uploads(desk.files)

    @app.post("/v1/files")
    async def upload(request: Request) -> dict[str, Any]:
        return file_shape(await uploads.receive(request))

    @app.get("/v1/files")
    async def files(request: Request) -> dict[str, Any]:
        asked = query(request, FileQuery)

        def page() -> tuple[list[Any], bool]:
            newest = asked.order == "desc"
            return desk.list_files(asked.purpose, asked.after, asked.limit, newest_first=newest)

        found, more = await done(page)
        return page_shape([file_shape(file) for file in found], more)

    @app.get("/v1/files/{file}")
    async def file(file: str) -> dict[str, Any]:
        return file_shape(await done(lambda: desk.file(file)))

    @app.get("/v1/files/{file}/content")
    async def content(file: str) -> Response:
        found, opened = await done(lambda: desk.open_file(file))
        headers = {
            "Content-Length": str(found.bytes),
            "Content-Disposition": "attachment",
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(_pieces(opened), headers=headers, media_type=BINARY)

    @app.delete("/v1/files/{file}")
    async def delete(file: str) -> dict[str, Any]:
        await done(lambda: desk.delete_file(file))
        return {"id": file, "object": "file", "deleted": True}


def _add_job_routes(app: FastAPI, desk: Desk) -> None:
    @app.post("/v1/fine_tuning/jobs")
    async def create(request: Request) -> dict[str, Any]:
        body = await read(request, JobRequest)
        return job_shape(await done(lambda: desk.create(body.request())))

    @app.get("/v1/fine_tuning/jobs/{job}")
    async def retrieve(job: str) -> dict[str, Any]:
        return job_shape(await done(lambda: desk.job(job)))

    async def act(request: Request, change: Callable[[str], Job], job: str) -> Response:
        await read(request, Nothing, optional=True)
        return JSONResponse(job_shape(await done(lambda: change(job))))

    @app.post("/v1/fine_tuning/jobs/{job}/cancel")
    async def cancel(job: str, request: Request) -> Response:
        return await act(request, desk.cancel, job)

    @app.post("/v1/fine_tuning/jobs/{job}/pause")
    async def pause(job: str, request: Request) -> Response:
        return await act(request, desk.pause, job)

    @app.post("/v1/fine_tuning/jobs/{job}/resume")
    async def resume(job: str, request: Request) -> Response:
        return await act(request, desk.resume, job)


def _add_job_lists(app: FastAPI, desk: Desk) -> None:
    @app.get("/v1/fine_tuning/jobs")
    async def jobs(request: Request) -> dict[str, Any]:
        asked = query(request, JobQuery)

        def keep(job: Job) -> bool:
            has = job.request.metadata
            if asked.metadata == "null":
                return has is None
            wanted = asked.metadata or {}
            return all((has or {}).get(key) == value for key, value in wanted.items())

        found, more = await done(lambda: desk.list_jobs(asked.after, asked.limit, keep))
        return page_shape([job_shape(job) for job in found], more)

    @app.get("/v1/fine_tuning/jobs/{job}/events")
    async def events(job: str, request: Request) -> dict[str, Any]:
        asked = query(request, PageQuery)
        found, more = await done(lambda: desk.events(job, asked.after, asked.limit))
        return page_shape([event_shape(event) for event in found], more)

    @app.get("/v1/fine_tuning/jobs/{job}/checkpoints")
    async def checkpoints(job: str, request: Request) -> dict[str, Any]:
        asked = query(request, CheckpointQuery)
        of_job = await done(lambda: desk.job(job))
        kept = await done(lambda: desk.checkpoints(job))
        shown = [checkpoint_shape(of_job, one) for one in kept]
        if asked.after is not None:
            ids = [one["id"] for one in shown]
            if asked.after not in ids:
                raise not_found("No such checkpoint of this job.", param="after")
            shown = shown[ids.index(asked.after) + 1 :]
        return page_shape(shown[: asked.limit], len(shown) > asked.limit)


def _pieces(opened: BinaryIO) -> Iterator[bytes]:
    with opened:
        while piece := opened.read(2**16):
            yield piece


async def done(work: Callable[[], T]) -> T:
    """What the desk answers; ``ApiError`` for what it refuses."""
    try:
        return await run_in_threadpool(work)
    except Missing as missing:
        raise not_found(str(missing), missing.code, missing.param) from None
    except Conflict as now:
        raise conflict(str(now), now.param, now.code) from None
    except QueueFull as full:
        raise ApiError(
            429,
            str(full),
            kind="rate_limit_error",
            code="rate_limit_exceeded",
            headers={"Retry-After": "60", "x-should-retry": "false"},
        ) from None
    except Refused as refused:
        raise invalid(str(refused), refused.param, refused.code) from None
    except UserError as error:  # somebody writes to a run
        raise invalid(error.problems[0].rpartition("/")[2]) from None


def query(request: Request, kind: type[Query]) -> Query:
    """The parameters of an address; ``ApiError`` for unknown, repeated and impossible ones."""
    given: dict[str, Any] = {}
    for key, value in request.query_params.multi_items():
        pair = _METADATA.fullmatch(key) if "metadata" in kind.model_fields else None
        held: dict[str, Any] = given
        if pair is not None:
            held = given.setdefault("metadata", {})
            key = pair[1]
        if not isinstance(held, dict) or key in held:
            raise invalid(f"{key[:100]}: was given twice.", key[:100])
        held[key] = value
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise from_validation(error) from None
