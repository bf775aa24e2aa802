"""``lorita export gguf``: an adapter or a merged model as a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lorita.cli.options import (
    BasePlace,
    Quantize,
    TrustCode,
)
from lorita.cli.render import size_text
from lorita.cli.say import say
from lorita.cli.waiting import waiting


def command(
    run: Annotated[str, Parameter(help="Run folder, or any LoRA adapter (folder or hub id).")],
    out: Annotated[Path, Parameter(help="GGUF file to write.")],
    /,
    *,
    merged: Annotated[
        bool, Parameter(help="Write the whole model with the adapter merged in.", negative=())
    ] = False,
    quantize: Annotated[
        Quantize | None, Parameter(help="With --merged: number format of the file. Default: f16.")
    ] = None,
    base: BasePlace = None,
    trust_remote_code: TrustCode = False,
    allow_loss: Annotated[
        bool, Parameter(help="Keep the file even if llama.cpp answers differently.", negative=())
    ] = False,
    overwrite: Annotated[bool, Parameter(help="Replace an existing file.", negative=())] = False,
) -> None:
    """Write an adapter or a merged model as a GGUF file for llama.cpp.

    If llama.cpp is installed (pip install lorita[llamacpp]), the file is loaded in it, and its
    answers must match those of base and adapter.
    """
    with waiting() as show:
        from lorita.export.gguf.export import export_gguf

        made = export_gguf(
            run,
            out,
            merged=merged,
            quantize=quantize,
            base=base,
            trust_remote_code=trust_remote_code,
            allow_loss=allow_loss,
            overwrite=overwrite,
            on_event=show,
        )
    say(f"Written: {made.path}, {size_text(made.size)}")
    for line in [*made.notes, *made.checked]:
        say(line)
    how = f"-m {made.path}" if merged else f"-m {made.base or 'BASE.gguf'} --lora {made.path}"
    say(f'Use it:  llama-cli {how} -p "..."')
