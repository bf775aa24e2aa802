"""``lorita preview``: how the data was understood, before a second of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lorita.cli.options import settings_file, with_run_options
from lorita.settings.build import field_group
from lorita.settings.schema import RunSettings

_OTHERS = [
    name
    for name in RunSettings.model_fields
    if field_group(name) not in ("Base model", "Data") and name != "seed"
]


@with_run_options(leave_out=_OTHERS)
def command(
    target: Annotated[
        str | None,
        Parameter(help="What --data takes, a settings file (run.yaml) or a run folder."),
    ] = None,
    /,
    *,
    html: Annotated[Path | None, Parameter(help="Write a page with the rows in full.")] = None,
    json: Annotated[bool, Parameter(help="Print everything as JSON.", negative=())] = False,
    **options: Any,
) -> None:
    """Show how the data was understood, the first rows token by token, and what is wrong.

    Takes the options of train that are about model and data. Needs the model's tokenizer only.
    """
    import json as dump

    from lorita.cli.preview_text import print_preview
    from lorita.workflows.preview import preview

    config = None
    if target is not None and _is_settings(target):
        config = settings_file(target)
    elif target is not None:
        options["data"] = [target, *options.get("data", [])]
    found = preview(config=config, **options)
    if html is not None:
        from lorita.cli.preview_page import write_page

        write_page(html, found)
    if json:
        print(dump.dumps(found.as_dict(), ensure_ascii=False, indent=1))
    else:
        print_preview(found)
    if html is not None and not json:
        print(f"\nPage: {html}")


def _is_settings(target: str) -> bool:
    path = Path(target).expanduser()
    return path.suffix.lower() in (".yaml", ".yml") or (path / "run.yaml").is_file()
