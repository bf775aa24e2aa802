"""What requests about fine-tuning jobs may hold: OpenAI's parameters. All else is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, model_validator

from lorita.jobs.records import Request

MOST_PAIRS = 16
"""Of metadata."""
_OTHERS = {"dpo": "on preferences (dpo)", "reinforcement": "by graders (reinforcement)"}


def _number(kind: type, least: float, most: float) -> Callable[[Any], Any]:
    """A check for "auto" or a number in a range."""
    what = "a whole number" if kind is int else "a number"

    def check(value: Any) -> Any:
        whole = isinstance(value, int) and not isinstance(value, bool)
        fits = whole or (kind is float and isinstance(value, float) and math.isfinite(value))
        if value in (None, "auto"):
            return "auto"
        if not fits or not least <= value <= most:
            raise ValueError(f'should be "auto" or {what} from {least:g} to {most:g}')
        return value

    return check


def _suffix(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise ValueError("should be up to 64 letters, digits, - and _")
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Hyperparameters(_Strict):
    """Numbers, or "auto" where lorita chooses."""

    n_epochs: Annotated[Any, PlainValidator(_number(int, 1, 1000))] = "auto"
    batch_size: Annotated[Any, PlainValidator(_number(int, 1, 1024))] = "auto"
    learning_rate_multiplier: Annotated[Any, PlainValidator(_number(float, 1e-4, 100))] = "auto"


class Supervised(_Strict):
    """The options of supervised fine-tuning."""

    hyperparameters: Hyperparameters | None = None


class Method(_Strict):
    """How to train."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Any = None
    reinforcement: Any = None

    @model_validator(mode="after")
    def _is_known(self) -> Method:
        others = [kind for kind in ("dpo", "reinforcement") if getattr(self, kind) is not None]
        if self.type != "supervised" or others:
            kind = _OTHERS[[*others, self.type][0]]
            raise ValueError(f"this server has no training {kind}, only supervised fine-tuning")
        return self


class JobRequest(_Strict):
    """The body of ``POST /v1/fine_tuning/jobs``."""

    model: Annotated[str, Field(min_length=1, max_length=512)]
    training_file: Annotated[str, Field(min_length=1, max_length=100)]
    validation_file: Annotated[str, Field(max_length=100)] | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: Annotated[str, AfterValidator(_suffix)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)] | None = None
    metadata: (
        Annotated[
            dict[
                Annotated[str, Field(max_length=64)],
                Annotated[str, Field(max_length=512)],
            ],
            Field(max_length=MOST_PAIRS),
        ]
        | None
    ) = None
    integrations: Any = None

    @model_validator(mode="after")
    def _only_what_is_done(self) -> JobRequest:
        if self.integrations not in (None, []):
            raise ValueError("integrations: this server sends nothing to other services")
        supervised = self.method.supervised if self.method is not None else None
        inner = supervised.hyperparameters if supervised is not None else None
        if inner is not None and self.hyperparameters is not None:
            raise ValueError("hyperparameters are given twice; they belong into method.supervised")
        return self

    def request(self) -> Request:
        """The request as the jobs know it."""
        supervised = self.method.supervised if self.method is not None else None
        inner = supervised.hyperparameters if supervised is not None else None
        chosen = inner or self.hyperparameters or Hyperparameters()
        return Request(
            model=self.model,
            training_file=self.training_file,
            validation_file=self.validation_file or None,
            n_epochs=chosen.n_epochs,
            batch_size=chosen.batch_size,
            learning_rate_multiplier=chosen.learning_rate_multiplier,
            suffix=self.suffix,
            seed=42 if self.seed is None else self.seed,
            metadata=self.metadata,
        )


class Nothing(_Strict):
    """The body of requests that say all in their address."""


class FileQuery(_Strict):
    """What ``GET /v1/files`` takes."""

    purpose: Annotated[str, Field(max_length=100)] | None = None
    after: Annotated[str, Field(max_length=100)] | None = None
    limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    order: Literal["asc", "desc"] = "desc"


class PageQuery(_Strict):
    """What lists of events and checkpoints take."""

    after: Annotated[str, Field(max_length=100)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 20


class CheckpointQuery(PageQuery):
    """What the list of checkpoints takes."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 10


class JobQuery(PageQuery):
    """What the list of jobs takes. ``metadata``: pairs that jobs must have; "null": none at all."""

    metadata: dict[str, str] | Literal["null"] | None = None
