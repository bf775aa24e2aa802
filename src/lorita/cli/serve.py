"""``lorita serve``: runs and their base over HTTP, in OpenAI's shape."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lorita.cli.options import BasePlace, Dtype, Engine, TrustCode
from lorita.cli.say import say, tell
from lorita.cli.waiting import waiting

KEY_VARIABLE = "LORITA_API_KEY"


Models = Annotated[
    str,
    Parameter(help="Run folders of one base, and the base model itself if only it is served."),
]
Host = Annotated[
    str, Parameter(help="Address to listen on. Any but this machine's own needs a key.")
]
Port = Annotated[int, Parameter(help="Port to listen on; 0 is any that is free.")]
Key = Annotated[
    str | None,
    Parameter(
        help=f"Key that every request must send. {KEY_VARIABLE} sets it without showing it in the "
        "list of processes.",
        show_default=False,
    ),
]
Watched = Annotated[
    Path | None,
    Parameter(help="Folder of runs: each run that is finished in it is served at once."),
]
Jobs = Annotated[
    bool | None,
    Parameter(
        help="Keep files and do fine-tuning jobs in the watched folder (default: yes). Jobs that "
        "were not made here by you are only done if this is given.",
        show_default=False,
    ),
]
JobSettings = Annotated[
    Path | None,
    Parameter(help="YAML file with options of lorita train for all fine-tuning jobs."),
]
Longest = Annotated[
    int, Parameter(help="Maximum length of an answer, where a request does not say.")
]
Temperature = Annotated[
    float,
    Parameter(help="Temperature where a request does not say; 0 is always the likeliest token."),
]
Queue = Annotated[
    int, Parameter(help="Answers that wait at most; more requests are refused with 429.")
]
ServeEngine = Annotated[
    Engine,
    Parameter(
        help="What writes the answers: transformers' models, as lorita runs them, or llama.cpp "
        "(pip install lorita[llamacpp]), which knows fewer options."
    ),
]
Patience = Annotated[float, Parameter(help="Seconds after which a request is given up.")]


def command(
    *runs_or_model: Models,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_key: Key = None,
    watch: Watched = None,
    jobs: Jobs = None,
    job_settings: JobSettings = None,
    max_new_tokens: Longest = 1024,
    temperature: Temperature = 0.0,
    max_queue: Queue = 256,
    timeout: Patience = 600.0,
    engine: ServeEngine = "transformers",
    dtype: Dtype = "auto",
    base: BasePlace = None,
    trust_remote_code: TrustCode = False,
) -> None:
    """Serve runs and their base over HTTP, as OpenAI's API.

    A request's "model" is the name of a run's folder, or "base". Ctrl-C ends the server.
    """
    from lorita.serving.extra import require_extra

    require_extra()
    from lorita.serving.security import check_key

    key = api_key if api_key is not None else os.environ.get(KEY_VARIABLE) or None
    check_key(host, key)
    _check(max_new_tokens, temperature, max_queue, timeout)
    settings = _read(job_settings, used=jobs is not False and watch is not None)
    with waiting() as show:
        from lorita.serving import server
        from lorita.serving.rules import Defaults
        from lorita.training.events import PhaseStarted

        listening = server.open_socket(host, port)
        found = server.find_models(runs_or_model, base, watch, trust_remote_code=trust_remote_code)
        show(PhaseStarted(f"Loading {found[0].base.name}"))
        registry = server.load_registry(found, watch, dtype, engine)
        desk = None
        if jobs is not False:
            desk = server.make_desk(registry, dtype, allowed=jobs is True, **settings)
        service = server.make_service(
            registry,
            Defaults(max_new_tokens, temperature),
            most_waiting=max_queue,
            timeout=timeout,
        )
    _log()
    shown = f"[{host}]" if ":" in host else host
    say(
        f"Serving {', '.join(sorted(registry.served))} on {registry.base.name}: "
        f"http://{shown}:{listening.getsockname()[1]}/v1"
    )
    sys.stdout.flush()
    _until_stopped(lambda: server.serve(service, listening, host=host, key=key, desk=desk))


def _until_stopped(serve: object) -> None:
    """Being stopped is a server's ordinary end."""
    from lorita.system.signals import Terminated

    try:
        serve()  # type: ignore[operator]
    except (KeyboardInterrupt, Terminated):
        tell("Stopped.")


def _check(max_new_tokens: int, temperature: float, max_queue: int, timeout: float) -> None:
    from lorita.errors import SettingsError

    problems = [
        f"{name} = {value}: should be {rule}"
        for name, value, holds, rule in (
            ("max_new_tokens", max_new_tokens, max_new_tokens >= 1, "1 or more"),
            ("temperature", temperature, 0 <= temperature <= 2, "from 0 to 2"),
            ("max_queue", max_queue, max_queue >= 1, "1 or more"),
            ("timeout", timeout, timeout > 0, "greater than 0"),
        )
        if not holds
    ]
    if problems:
        raise SettingsError(problems)


def _read(job_settings: Path | None, *, used: bool) -> dict[str, Any]:
    from lorita.errors import SettingsError
    from lorita.jobs.options import read_job_settings

    if job_settings is None:
        return {}
    if not used:
        raise SettingsError(
            f"job_settings = {job_settings}: there are no jobs", hint="Give --watch FOLDER as well."
        )
    return read_job_settings(job_settings)


def _log() -> None:
    """A line for each request, on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("lorita.serving")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
