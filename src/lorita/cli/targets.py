"""``lorita targets``: the modules that LoRA can adapt."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from lorita.cli.options import Json
from lorita.cli.render import console, plain_table
from lorita.cli.say import say, say_json
from lorita.cli.unused import say_unused
from lorita.cli.waiting import waiting


def command(
    model: Annotated[
        str, Parameter(help="Hub id, model folder, .gguf file, or the bundled smollm2-135m.")
    ],
    /,
    *,
    revision: Annotated[str | None, Parameter(help="Branch, tag or commit of a hub model.")] = None,
    trust_remote_code: Annotated[
        bool,
        Parameter(help="Run Python code that comes with the model. Only for sources you trust."),
    ] = False,
    json: Json = False,
) -> None:
    """List the modules of a model that LoRA can adapt.

    Shows their shapes and the parameters that each adds per rank. Needs only the model's
    config.json. By default, train adapts all that are listed.
    """
    with waiting():
        from lorita.models.base import find_base
        from lorita.models.empty_model import empty_model
        from lorita.models.targets import find_layers, list_targets

        base = find_base(model, revision=revision, trust_remote_code=trust_remote_code)
        layers = find_layers(empty_model(base))
        targets = list_targets(layers)
    if not base.is_hub:
        say_unused("here: the model is on this machine", revision=(revision, None))
    if json:
        say_json([asdict(target) for target in targets])
        return
    rows = [
        (
            target.name,
            str(target.count),
            ", ".join(f"{inputs} to {outputs}" for inputs, outputs in target.shapes),
            f"{target.cost_per_rank:,}",
        )
        for target in targets
    ]
    headings = ("module", "layers", "shape", "parameters per rank")
    console().print(plain_table(headings, rows))
    total = sum(target.cost_per_rank for target in targets)
    say(f"all-linear: {total:,} parameters per rank")
    for note in layers.notes():
        say(note)
