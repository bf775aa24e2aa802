"""Fast forwards and torch.compile: they are called, never traced.

Compiled kernels behind ``ctypes`` cannot be part of a traced graph, and tracing what is around them
takes half a minute and gains nothing.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch

from lorita.errors import LoritaWarning

Forward = Callable[..., Any]


def untraced(forward: Forward, told: set[str]) -> Forward:
    """``forward``, which torch.compile calls as it is; the first time, a warning says so.

    ``told`` holds what was said already.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        if "compile" not in told:
            told.add("compile")
            warnings.warn(
                "lorita: torch.compile has no effect on what speedup() replaced: those parts run "
                "as they are. Leave torch.compile out, or call unspeed() first",
                LoritaWarning,
                stacklevel=2,
            )
        return forward(*args, **kwargs)

    outside = torch.compiler.disable(call)

    @functools.wraps(forward)
    def choose(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return outside(*args, **kwargs)
        return forward(*args, **kwargs)

    choose.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    return choose
