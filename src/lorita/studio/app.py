"""The studio as a web application: the page in each language, downloads, and the guard around."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lorita.errors import SettingsError, UserError
from lorita.serving.security import is_loopback
from lorita.studio.tools import Tools
from lorita.studio.words import LANGUAGES, Told, preferred

INSTALL = 'pip install "lorita[studio]"'


def require_extra() -> None:
    """``SettingsError`` if the packages of the extra ``studio`` are not installed."""
    missing = [name for name in ("gradio", "fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"lorita studio needs {', '.join(missing)}", hint=f"Install it: {INSTALL}"
        )


def make_app(folder: Path, tools: Tools, *, password: str | None = None, local: bool = True) -> Any:
    """The ASGI application of a studio whose runs are in ``folder``.

    ``local``: it is reached under names of this machine only.
    """
    _without_calls_home()
    import gradio as gr
    from fastapi import FastAPI

    from lorita.studio.guard import Guard
    from lorita.studio.page import build_page
    from lorita.studio.pages_sent import CleanPages
    from lorita.studio.service import Studio
    from lorita.studio.uploads import MOST_BYTES
    from lorita.studio.workspace import Workspace

    app: Any = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    studio = Studio(Workspace(folder), tools)
    _add_routes(app, studio)
    style = (files("lorita") / "resources" / "studio.css").read_text(encoding="utf-8")
    theme = gr.themes.Default(
        primary_hue="green",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    for code, words in LANGUAGES.items():
        blocks = build_page(words, studio).queue(default_concurrency_limit=16, api_open=False)
        app = gr.mount_gradio_app(
            app,
            blocks,
            path=f"/{code}",
            theme=theme,
            css=style,
            footer_links=[],
            run_history=False,
            show_error=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            allowed_paths=[],
            max_file_size=MOST_BYTES,
        )
    return Guard(CleanPages(app, tuple(LANGUAGES)), password=password, local=local)


def _without_calls_home() -> None:
    """Settings that gradio reads when it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("GRADIO_TEMP_DIR", tempfile.mkdtemp(prefix="lorita-studio-"))
    for name in ("httpx", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _add_routes(app: Any, studio: Any) -> None:
    from fastapi import Request
    from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
    from starlette.background import BackgroundTask

    from lorita.studio.exports import download

    def start(request: Request) -> Response:
        words = preferred(request.headers.get("accept-language", ""))
        return RedirectResponse(f"/{words.language}/", status_code=307)

    def send(name: str, kind: str, request: Request) -> Response:
        try:
            path, saved_as, temporary = download(studio.workspace, name, kind)
        except (Told, UserError, OSError):
            words = preferred(request.headers.get("accept-language", ""))
            return PlainTextResponse(words("no_such_run"), status_code=404)
        is_page = path.suffix == ".html"
        return FileResponse(
            path,
            filename=None if is_page else saved_as,
            media_type="text/html" if is_page else "application/octet-stream",
            background=BackgroundTask(path.unlink) if temporary else None,
        )

    for route, answer in (("/", start), ("/files/{name}/{kind}", send)):
        answer.__annotations__ = {
            **{key: str for key in ("name", "kind") if key in route},
            "request": Request,
        }
        app.add_api_route(route, answer, methods=["GET"], response_model=None)


def prepared(folder: Path, tools: Tools, *, host: str, password: str | None) -> Any:
    """The application for an address; ``SettingsError`` if it needs a password and has none."""
    from lorita.studio.guard import check_password

    check_password(host, password)
    return make_app(folder.expanduser(), tools, password=password, local=is_loopback(host))


def serve(
    application: Any,
    listening: socket.socket,
    *,
    server_made: Callable[[Any], None] = lambda server: None,
) -> None:
    """Answer until the server is told to exit; ``server_made`` is given uvicorn's."""
    import uvicorn

    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    server_made(server)
    try:
        server.run(sockets=[listening])
    finally:
        listening.close()
