"""``tool_choice``: an answer that has to be a call of a tool, with arguments of its schema.

What the template writes before a call's JSON is put behind the prompt, as if the model had begun
its answer with it. The rest is JSON of the call's form, with the tool's schema for the arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.template_forms import KEY, NAME
from lorita.serving.api_errors import invalid
from lorita.serving.tool_calls import call_example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.data.tokens.chat_template import ChatTemplate
    from lorita.serving.schema import ChatRequest

_PARAM = "tool_choice"


@dataclass(frozen=True)
class ForcedCall:
    """A call that has to come: what begins it, the schema of its JSON, and the tools allowed."""

    beginning: str
    schema: dict[str, Any]
    names: tuple[str, ...]

    def ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The tokens of the beginning, which is the template's own text."""
        if not self.beginning:
            return []
        return list(tokenizer(self.beginning, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]


def forced_call(
    body: ChatRequest, template: ChatTemplate | None, tools: Sequence[Mapping[str, Any]]
) -> ForcedCall | None:
    """The call that the request demands; None if it leaves that to the model.

    ``ApiError`` if there is no such tool, or the template's calls cannot be demanded.
    """
    wanted = body.wanted_tool
    if wanted is None and body.tool_choice != "required":
        return None
    functions = {one["name"]: one for one in (tool.get("function", tool) for tool in tools)}
    if not functions:
        raise invalid("tool_choice: there are no tools to call", _PARAM)
    if wanted is not None and wanted not in functions:
        known = ", ".join(functions)
        raise invalid(f"tool_choice: there is no tool {wanted}. There are: {known}.", _PARAM)
    names = tuple(functions) if wanted is None else (wanted,)
    example = None if template is None else call_example(template)
    if example is None or not _can_be_filled(example[1]):
        raise invalid(
            "tool_choice: the model's chat template writes calls in a form that cannot be "
            "demanded; use auto or none",
            _PARAM,
        )
    definitions: dict[str, Any] = {}
    forms = []
    for number, name in enumerate(names):
        definitions[f"tool{number}"] = _arguments(functions[name], f"#/$defs/tool{number}")
        forms.append(_schema(example[1], name, f"#/$defs/tool{number}"))
    schema = {"anyOf": forms} if len(forms) > 1 else forms[0]
    return ForcedCall(example[0], {**schema, "$defs": definitions}, names)


def _can_be_filled(value: Any) -> bool:
    """Whether the arguments stand in the call as a JSON object, not as a text."""
    if isinstance(value, list):
        return len(value) == 1 and _can_be_filled(value[0])
    if not isinstance(value, dict):
        return False
    inner = value.get("function", value)
    return isinstance(inner, dict) and any(
        isinstance(part, dict) and KEY in part for part in inner.values()
    )


def _schema(example: Any, name: str, arguments: str) -> dict[str, Any]:
    """The schema of a call like the example: its keys, in their order."""
    if isinstance(example, dict) and KEY in example:
        return {"$ref": arguments}
    if isinstance(example, dict):
        properties = {key: _schema(value, name, arguments) for key, value in example.items()}
        return _object(properties)
    if isinstance(example, list):
        items = [_schema(value, name, arguments) for value in example]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    return {"const": name if example == NAME else example}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _arguments(function: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The schema of a tool's arguments, its references turned to the ``place`` where it stands.

    Arguments that it does not name are left out, unless it speaks of them.
    """
    given = function.get("parameters") or _object({})
    if given.get("type", "object") != "object":
        name = function["name"]
        raise invalid(f"tools: the parameters of {name} are not of the type object", "tools")
    moved: dict[str, Any] = _moved(given, place)
    return {"type": "object", "additionalProperties": False, **moved}


def _moved(schema: Any, place: str) -> Any:
    if isinstance(schema, list):
        return [_moved(part, place) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, place)
        for key, value in schema.items()
    }
