"""``lorita push``: upload a run to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lorita.cli.say import say


def command(
    run: Annotated[Path, Parameter(help="Run folder, or any PEFT LoRA folder.")],
    hub_model_id: Annotated[
        str | None,
        Parameter(help="Repository, owner/name. Default: the run's name in your account."),
    ] = None,
    /,
    *,
    base_model: Annotated[
        str | None, Parameter(help="Hub id of the base model, if the run was trained from a file.")
    ] = None,
    license: Annotated[
        str | None,
        Parameter(help="License id, such as apache-2.0. Default: that of the base model."),
    ] = None,
    private: Annotated[bool, Parameter(help="Make the repository private.", negative=())] = False,
) -> None:
    """Upload a run to the Hugging Face Hub.

    Uploads the adapter, its tokenizer and a model card with the figures of the run. Settings, logs
    and the folders of your data are not uploaded.
    """
    from lorita.export.push import push_run

    address, notes = push_run(
        run, hub_model_id, base_model=base_model, license=license, private=private
    )
    for note in notes:
        say(f"Note: {note}")
    say(f"Pushed: {address}")
