"""``lorita export llama-server``: a folder that llama.cpp's server serves, adapters by request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lorita.cli.options import BasePlace, Quantize, TrustCode
from lorita.cli.render import size_text
from lorita.cli.say import say
from lorita.cli.waiting import waiting


def command(
    run: Annotated[str, Parameter(help="Run folder, or any LoRA adapter (folder or hub id).")],
    out: Annotated[Path, Parameter(help="Folder to write.")],
    /,
    *,
    adapter: Annotated[
        list[str] | None,
        Parameter(help="Another adapter on the same base. Repeatable.", metavar="RUN", negative=()),
    ] = None,
    quantize: Annotated[
        Quantize | None,
        Parameter(help="Number format of a base that is no GGUF file yet. Default: f16."),
    ] = None,
    base: BasePlace = None,
    trust_remote_code: TrustCode = False,
    allow_loss: Annotated[
        bool, Parameter(help="Keep the folder even if llama.cpp answers differently.", negative=())
    ] = False,
    overwrite: Annotated[bool, Parameter(help="Replace an existing folder.", negative=())] = False,
) -> None:
    """Write base and adapters with a start script for llama-server.

    The base's own GGUF file becomes a hard link where that is possible, else a copy. README.md in
    the folder says how a request chooses its adapter.
    """
    with waiting() as show:
        from lorita.export.llamacpp.server_folder import export_llama_server

        done = export_llama_server(
            run,
            out,
            others=adapter or [],
            quantize=quantize,
            base=base,
            allow_loss=allow_loss,
            overwrite=overwrite,
            trust_remote_code=trust_remote_code,
            on_event=show,
        )
    for note in done.notes:
        say(f"Note: {note}")
    files = sorted(done.folder.glob("[!.]*"))
    say(f"Written: {', '.join(f'{path} ({size_text(path.stat().st_size)})' for path in files)}")
    for line in done.checked:
        say(line)
    say(f"Use it:  {out / 'start.sh'}   (how to choose an adapter: {out / 'README.md'})")
