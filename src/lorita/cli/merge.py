"""``lorita merge``: base and adapter as one plain model folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lorita.cli.options import (
    BasePlace,
    DtypeName,
    TrustCode,
)
from lorita.cli.render import size_text
from lorita.cli.say import say
from lorita.cli.unused import say_unused
from lorita.cli.waiting import waiting


def command(
    run: Annotated[str, Parameter(help="Run folder, or any LoRA adapter (folder or hub id).")],
    out: Annotated[Path, Parameter(help="Folder to write.")],
    /,
    *,
    adapter: Annotated[
        list[str] | None,
        Parameter(
            help="Another adapter to add, as RUN or RUN:WEIGHT. Repeatable.",
            metavar="RUN",
            negative=(),
        ),
    ] = None,
    weight: Annotated[float, Parameter(help="Weight of the first adapter.")] = 1.0,
    combination_type: Annotated[
        str,
        Parameter(
            help="How to combine several adapters, by PEFT's names: cat (sum), linear, svd, ties, "
            "dare_ties and others.",
            metavar="NAME",
        ),
    ] = "cat",
    dtype: Annotated[
        DtypeName, Parameter(help="Number format of the merged model; auto keeps the base's.")
    ] = "auto",
    base: BasePlace = None,
    trust_remote_code: TrustCode = False,
    allow_loss: Annotated[
        bool, Parameter(help="Keep the model even if it answers differently.", negative=())
    ] = False,
    overwrite: Annotated[bool, Parameter(help="Replace an existing folder.", negative=())] = False,
) -> None:
    """Merge an adapter into its base model.

    Writes a plain model folder, which must give the same answers as base and adapter.
    """
    if not adapter:
        combined = (combination_type, "cat")
        say_unused("without --adapter: there is nothing to combine", combination_type=combined)
    with waiting() as show:
        from lorita.export.merged.combine import parse_part
        from lorita.export.merged.merge import merge

        made = merge(
            run,
            out,
            others=[parse_part(text) for text in adapter or []],
            weight=weight,
            combination_type=combination_type,
            base=base,
            trust_remote_code=trust_remote_code,
            dtype=dtype,
            allow_loss=allow_loss,
            overwrite=overwrite,
            on_event=show,
        )
    say(f"Merged: {made.path}, {size_text(made.size)} in {made.dtype}")
    say(f"Same as base and adapter: {made.agreement.line()}")
    say(f'Use it:  lorita generate {shlex.quote(str(made.path))} "..."')
