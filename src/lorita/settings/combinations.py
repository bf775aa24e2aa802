"""Options that cannot be used together, and a class of settings that refuses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator
from typing_extensions import Self

from lorita.settings.held_objects import Holding

_LOFTQ = "init_lora_weights loftq makes up for what base_precision q4 or q8 rounds"
_NO_ROUNDING = {
    None: f"{_LOFTQ}, and without them nothing is rounded",
    "native": f"{_LOFTQ}; what the blocks of a GGUF file were made from is not known",
    "int8": f"{_LOFTQ}; int8 rounds in training only, and the adapter is used on exact weights",
}


class Consistent(Holding):
    """Settings without contradictions."""

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        found = contradiction(dict(self))
        if found is not None:
            raise ValueError(found)
        return self


def contradiction(values: Mapping[str, Any]) -> str | None:
    """The first contradiction among the values of all options, in words; None if there is none."""
    if values["base_precision"] == "int8" and not values["speedup"]:
        return "base_precision int8 is part of the fast step, so it needs speedup"
    trained = ("modules_to_save", "add_tokens", "add_special_tokens")
    if values["base_precision"] in ("native", "q8", "q4"):
        for name in trained:
            if values[name]:
                return f"{name} changes weights of the base, which base_precision keeps quantised"
    if values["init_lora_weights"] == "loftq" and values["base_precision"] not in ("q8", "q4"):
        return _NO_ROUNDING[values["base_precision"]]
    if values["alora_invocation_tokens"]:
        for name in ("use_dora", *trained):
            if values[name]:
                return f"{name} cannot be part of an activated LoRA (alora_invocation_tokens)"
        if values["bias"] != "none":
            return "trained biases act on every token: alora_invocation_tokens needs bias none"
    if values["text_field"] is not None and values["text_template"] is not None:
        return "text_field and text_template cannot be used together"
    if values["streaming"] and values["max_train_samples"] is None:
        return "streaming needs max_train_samples, the number of rows to read"
    if values["time_budget"] is not None and not values["probe"]:
        return "time_budget needs probe: how many steps it is enough for is measured"
    return _columns(values)


def _columns(values: Mapping[str, Any]) -> str | None:
    """Columns of one format beside the name of another."""
    text = values["text_field"] is not None or values["text_template"] is not None
    pair = values["prompt_field"] is not None or values["completion_field"] is not None
    if text and pair:
        return "text_field cannot be used together with prompt_field or completion_field"
    chat, kind = values["messages_field"] is not None, values["format"]
    if chat and (text or pair):
        return "messages_field cannot be used together with text or prompt and completion fields"
    if chat and kind not in (None, "messages", "sharegpt"):
        return f"messages_field cannot be used with format {kind}"
    if text and kind not in (None, "text"):
        return f"text_field and text_template cannot be used with format {kind}"
    if pair and kind not in (None, "prompt-completion"):
        return f"prompt_field and completion_field cannot be used with format {kind}"
    return None
