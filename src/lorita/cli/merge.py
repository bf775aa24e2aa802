"""``lorita merge``: base and adapter as one plain model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lorita.cli.options import BasePlace
from lorita.cli.render import size_text


def command(
    run: Annotated[str, Parameter(help="A run folder, or any LoRA adapter (folder, hub id).")],
    out: Annotated[Path, Parameter(help="The folder to write.")],
    /,
    *,
    adapter: Annotated[
        list[str] | None,
        Parameter(help="Another adapter to add, RUN or RUN:0.5 (repeatable).", negative=()),
    ] = None,
    weight: Annotated[float, Parameter(help="How much of the first adapter.")] = 1.0,
    combination_type: Annotated[
        str, Parameter(help="PEFT's: cat (the sum), linear, svd, ties, dare_ties, …")
    ] = "cat",
    dtype: Annotated[
        str, Parameter(help="auto (the base's own), float32, bfloat16 or float16.")
    ] = "auto",
    base: BasePlace = None,
    allow_loss: Annotated[
        bool, Parameter(help="Write it although it answers otherwise.", negative=())
    ] = False,
    overwrite: Annotated[bool, Parameter(help="Replace the folder.", negative=())] = False,
) -> None:
    """Put an adapter into its base: one plain model folder, compared with base and adapter."""
    from lorita.export.merged.combine import parse_part
    from lorita.export.merged.merge import merge

    made = merge(
        run,
        out,
        others=[parse_part(text) for text in adapter or []],
        weight=weight,
        combination_type=combination_type,
        base=base,
        dtype=dtype,
        allow_loss=allow_loss,
        overwrite=overwrite,
    )
    print(f"Merged: {made.path}, {size_text(made.size)} in {made.dtype}")
    print(f"Same as base and adapter: {made.agreement.line()}")
