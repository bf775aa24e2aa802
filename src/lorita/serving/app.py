"""The routes: what each address answers. All work is done elsewhere."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from lorita.serving.api_errors import ApiError, failed, not_found
from lorita.serving.exchange import ClientGone
from lorita.serving.job_routes import add_job_routes
from lorita.serving.metrics import Metrics, Watch
from lorita.serving.reading import read
from lorita.serving.responses import ResponseRun
from lorita.serving.responses_schema import ResponseRequest
from lorita.serving.schema import ChatRequest, CompletionRequest
from lorita.serving.security import Guard
from lorita.serving.service import Service
from lorita.serving.streaming import StreamedAnswer

if TYPE_CHECKING:
    from lorita.jobs.desk import Desk
    from lorita.serving.service import Run

log = logging.getLogger("lorita.serving")


def make_app(
    service: Service, *, key: str | None = None, local: bool = True, desk: Desk | None = None
) -> Any:
    """The ASGI application. ``local``: it is asked under names of this machine only.

    ``desk`` sees to files and fine-tuning jobs; None: there are none.
    """
    metrics = Metrics(service.scheduler)
    app = make_routes(service, metrics, desk)
    return Watch(Guard(app, key=key, local=local), metrics)


def make_routes(service: Service, metrics: Metrics, desk: Desk | None = None) -> FastAPI:
    """All addresses, for whoever has been let in."""
    app = FastAPI(
        title="lorita", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    service.counted = metrics.tokens
    _add_routes(app, service, metrics)
    add_job_routes(app, desk)
    _add_errors(app)
    return app


def _add_routes(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def counted() -> Response:
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [service.shown(m) for m in await service.models()]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        return service.shown(await service.find(name))

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await read(request, ChatRequest)
        return await _answer(await service.chat(body, request.receive), stream=bool(body.stream))

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await read(request, CompletionRequest)
        run = await service.completion(body, request.receive)
        return await _answer(run, stream=bool(body.stream))

    @app.post("/v1/responses")
    async def responses(request: Request) -> Response:
        body = await read(request, ResponseRequest)
        run = await service.chat(body.chat(), request.receive)
        return await _answer(ResponseRun(run, body), stream=bool(body.stream))

    @app.post("/v1/embeddings")
    async def embeddings() -> Response:
        raise not_found("This server makes no embeddings: its models write text.")


async def _answer(run: Run | ResponseRun, *, stream: bool) -> Response:
    if stream:
        await run.begin()  # what fails before the first token is an answer of its own
        return StreamedAnswer(run)
    return JSONResponse(await run.whole())


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return await refused(request, _of_http(error))

    @app.exception_handler(ClientGone)
    async def gone(request: Request, error: ClientGone) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        # Not its message, which may hold what a user wrote.
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.error("%s in %s:%s", type(error).__name__, place.filename, place.lineno)
        return await refused(request, failed())


def _of_http(error: HTTPException) -> ApiError:
    if error.status_code == 404:
        return not_found("There is nothing at this address. Those of the API begin with /v1/.")
    if error.status_code == 405:
        return ApiError(405, "This address does not take this method.")
    return ApiError(error.status_code, "The request cannot be answered.")
