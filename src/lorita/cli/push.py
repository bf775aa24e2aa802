"""``lorita push``: a run to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def command(
    run: Annotated[Path, Parameter(help="A run folder, or any PEFT LoRA folder.")],
    hub_model_id: Annotated[
        str | None, Parameter(help="owner/name. By default the run's name under your own.")
    ] = None,
    /,
    *,
    base_model: Annotated[
        str | None, Parameter(help="The base's hub id, where the run was made from a file.")
    ] = None,
    license: Annotated[str | None, Parameter(help="By default that of the base.")] = None,
    private: Annotated[bool, Parameter(help="Others cannot see it.", negative=())] = False,
) -> None:
    """Upload the adapter, its tokenizer and a card with the figures of the run.

    Settings, logs and the data's folders are not uploaded.
    """
    from lorita.export.push import push_run

    address, notes = push_run(
        run, hub_model_id, base_model=base_model, license=license, private=private
    )
    for note in notes:
        print(f"Note: {note}")
    print(f"Pushed: {address}")
