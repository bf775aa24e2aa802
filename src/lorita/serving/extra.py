"""Whether the packages that only the server needs are installed; this module imports none."""

from __future__ import annotations

from lorita.errors import SettingsError

INSTALL = 'pip install "lorita[serve]"'


def require_extra() -> None:
    """``SettingsError`` if the packages of the extra ``serve`` are not installed."""
    from importlib.util import find_spec

    needed = {"fastapi": "fastapi", "uvicorn": "uvicorn", "prometheus_client": "prometheus-client",
              "python_multipart": "python-multipart"}  # fmt: skip
    missing = [package for module, package in needed.items() if find_spec(module) is None]
    if missing:
        raise SettingsError(
            f"lorita serve needs {', '.join(missing)}", hint=f"Install them: {INSTALL}"
        )
