"""A server from its models to its socket."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import OutputError, SettingsError
from lorita.serving.registry import BASE_NAME, Registry, finished_runs, open_registry
from lorita.serving.rules import Defaults
from lorita.serving.scheduler import Scheduler
from lorita.serving.security import check_key, is_loopback
from lorita.serving.service import Service
from lorita.system.signals import Terminated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorita.inference.resolve import Resolved
    from lorita.jobs.desk import Desk


def find_models(
    names: Sequence[str], base: str | None, watched: Path | None, *, trust_remote_code: bool
) -> list[Resolved]:
    """What the names mean; without names, the first run in the watched folder that can be used."""
    from lorita.inference.resolve import resolve, resolve_folder

    if watched is not None and not watched.is_dir():
        raise SettingsError(f"watch = {watched}: no such folder")
    found = [resolve(name, base, trust_remote_code=trust_remote_code) for name in names]
    if found:
        return found
    if watched is None:
        raise SettingsError(
            "nothing to serve", hint="Name run folders or a base model, or give --watch FOLDER."
        )
    if base is not None:
        return [resolve(base, trust_remote_code=trust_remote_code)]
    for folder in finished_runs(watched):
        first = resolve_folder(folder, trust_remote_code=trust_remote_code)
        return [replace(first, folder=None, record=None)]
    raise SettingsError(
        f"watch = {watched}: there is no finished run in it, so the base is not known",
        hint="Name it: lorita serve MODEL --watch FOLDER",
    )


def load_registry(
    found: Sequence[Resolved], watched: Path | None, dtype: str, engine: str = "transformers"
) -> Registry:
    """The models in memory, for lorita's own engine or for llama.cpp."""
    if engine == "llama.cpp":
        from lorita.serving.llama_registry import open_llama_registry

        return open_llama_registry(list(found), watched, dtype)
    from lorita.inference.load import open_model

    return open_registry(found, watched, lambda one: open_model(one, dtype))


def make_desk(registry: Registry, dtype: str, *, allowed: bool = False, **more: Any) -> Desk | None:
    """What sees to files and jobs, in the watched folder; None if no folder is watched.

    ``more`` are options of ``lorita train`` for all jobs. ``OutputError`` if another server sees
    to the folder, or if jobs there are somebody else's and nobody ``allowed`` them.
    """
    from lorita.inference.resolve import resolve_folder
    from lorita.jobs.desk import Desk

    if registry.watched is None:
        return None
    base = registry.base
    here = Path(base.name).expanduser()
    # Jobs may go on under a server that was started elsewhere.
    options: dict[str, Any] = {"model": str(here.absolute()) if here.exists() else base.name}
    if base.is_hub and base.revision is not None:
        options["revision"] = base.revision
    if base.trust_remote_code:
        options["trust_remote_code"] = True
    if dtype != "auto":
        options["dtype"] = dtype
    names = [base.name, base.reference, BASE_NAME]
    desk = Desk(registry.watched, options | more, names, allowed=allowed)
    registry.called = desk.served_as

    def checkpoint(name: str) -> Resolved | None:
        found = desk.checkpoint_folder(name)
        if found is None:
            return None
        code = base.trust_remote_code
        run = resolve_folder(found.parent, base.name, trust_remote_code=code)
        return replace(run, folder=found)

    registry.on_demand = checkpoint
    return desk


def make_service(
    registry: Registry, defaults: Defaults, *, most_waiting: int, timeout: float
) -> Service:
    """What answers requests."""
    scheduler = Scheduler(
        registry.writer,
        most_waiting=most_waiting,
        timeout=timeout,
        cache_bytes=registry.cache_limit(),
    )
    return Service(registry, scheduler, defaults)


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; ``OutputError`` if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host.strip("[]"), port))
        listening.listen(512)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"cannot listen on {host}, port {port}: {reason}",
            hint="Choose another with --port; 0 takes any that is free.",
        ) from error
    listening.set_inheritable(False)
    return listening


def serve(
    service: Service,
    listening: socket.socket,
    *,
    host: str,
    key: str | None,
    desk: Desk | None = None,
    server_made: Callable[[Any], None] = lambda server: None,
) -> None:
    """Answer requests until the server is told to exit; ``server_made`` is given uvicorn's.

    ``desk`` begins with the server to do its jobs, and stops with it.
    """
    import uvicorn

    from lorita.serving.app import make_app

    check_key(host, key)
    for other in ("uvicorn.error", "python_multipart"):  # they log what requests hold
        logging.getLogger(other).setLevel(logging.CRITICAL)
    app = make_app(service, key=key, local=is_loopback(host), desk=desk)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)
    server_made(server)
    signalled = False
    try:
        if desk is not None:
            desk.start()
        server.run(sockets=[listening])
    except (KeyboardInterrupt, Terminated):
        signalled = True
        raise
    finally:
        service.scheduler.stop()
        if desk is not None:
            desk.stop(signalled=signalled)
        listening.close()
