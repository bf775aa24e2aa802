"""``lorita studio``: the whole way in a browser."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lorita.cli.say import say, tell
from lorita.cli.waiting import waiting

if TYPE_CHECKING:
    from lorita.studio.tools import Tools


def command(
    folder: Annotated[
        Path, Parameter(help="Folder of the runs; what is trained in the page goes there.")
    ] = Path("runs"),
    /,
    *,
    host: Annotated[
        str, Parameter(help="Address to listen on. Any but this machine's own needs a password.")
    ] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0 is any that is free.")] = 7860,
    open_browser: Annotated[
        bool, Parameter(name="--open", help="Open the page in the browser.")
    ] = False,
) -> None:
    """Train, compare and chat in a page in the browser.

    The page is in English (/en) and Spanish (/es). A training goes on when the page is closed or
    the studio ended. LORITA_STUDIO_PASSWORD sets a password. Ctrl-C ends the studio.
    """
    from lorita.serving.server import open_socket
    from lorita.studio.app import require_extra

    require_extra()
    from lorita.studio.guard import VARIABLE, check_password

    password = os.environ.get(VARIABLE) or None
    check_password(host, password)
    _check_folder(folder)
    with waiting("Starting the studio"):
        from lorita.studio import app

        listening = open_socket(host, port)
        application = app.prepared(folder, page_tools(), host=host, password=password)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/"
    say(f"Studio: {address}")
    sys.stdout.flush()
    if open_browser:
        import webbrowser

        webbrowser.open(address)
    from lorita.system.signals import Terminated

    try:
        app.serve(application, listening)
    except (KeyboardInterrupt, Terminated):
        tell("Stopped. A training that was begun goes on: lorita runs shows it.")


def page_tools() -> Tools:
    """The workflows that the page calls."""
    from lorita.inference.conversation import Conversation
    from lorita.inference.load import open_model
    from lorita.inference.options import GenerationOptions
    from lorita.inference.resolve import resolve_folder
    from lorita.studio.tools import Tools
    from lorita.workflows.plan import plan_run
    from lorita.workflows.preview import look_through
    from lorita.workflows.runs import list_runs

    return Tools(
        look=look_through,
        plan=lambda settings: plan_run(settings, data=True),
        runs=list_runs,
        open=lambda folder: open_model(resolve_folder(folder)),
        converse=lambda tuned, most, turns: Conversation(
            tuned, GenerationOptions(max_new_tokens=most), turns=turns
        ),
    )


def _check_folder(folder: Path) -> None:
    from lorita.errors import OutputError
    from lorita.storage.files import check_parent
    from lorita.storage.run_folder import is_run

    place = folder.expanduser()
    if place.exists() and not place.is_dir():
        raise OutputError(f"{folder}: this is a file; the runs need a folder")
    if is_run(place):
        raise OutputError(
            f"{folder}: this is a run, not a folder of runs",
            hint=f"Name the folder that holds it: lorita studio {shlex.quote(str(place.parent))}",
        )
    if not place.exists():
        check_parent(place)
