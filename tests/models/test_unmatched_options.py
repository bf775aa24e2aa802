"""LoRA options that reach nothing in the model are refused, each with what there is."""

from __future__ import annotations

from typing import Any

import pytest

from lorita.errors import AdapterError
from lorita.models.adapter import lora_config
from tests import tiny


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"modules_to_save": ["nope"]}, "modules_to_save: no module is called 'nope'"),
        ({"modules_to_save": ["embed_token"]}, r"did you mean embed_tokens\?"),
        ({"target_modules": ["q_proj", "nope"]}, "target_modules: no module is called 'nope'"),
        ({"exclude_modules": ["nope"]}, "exclude_modules: no module is called 'nope'"),
        ({"exclude_modules": "nope.*"}, "exclude_modules 'nope.*' matches no module"),
        ({"exclude_modules": "(("}, "exclude_modules .* is not a valid regex"),
        ({"rank_pattern": {"nope": 4}}, "rank_pattern: no adapted module is called 'nope'"),
        ({"alpha_pattern": {"lm_head": 4.0}}, "alpha_pattern: no adapted module .* 'lm_head'"),
        (
            {"target_modules": ["q_proj"], "rank_pattern": {"v_proj": 4}},
            "no adapted module is called 'v_proj'",
        ),
        ({"rank_pattern": {"((": 4}}, "rank_pattern .* is not a valid regex"),
        ({"layers_to_transform": [0, 2]}, "there is no layer 2"),
        ({"layers_to_transform": [-1]}, "there is no layer -1"),
        ({"layers_to_transform": [7], "target_modules": ["q_proj"]}, "there is no layer 7"),
        ({"layers_to_transform": [7], "target_modules": ".*q_proj"}, "there is no layer 7"),
    ],
)
def test_what_matches_nothing_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(AdapterError, match=said):
        lora_config(tiny.make_model("llama"), options)


@pytest.mark.parametrize(
    "options",
    [
        {"modules_to_save": ["embed_tokens"]},
        {"exclude_modules": ".*q_proj"},
        {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"layers.1.mlp.up_proj": 4}},
        {"layers_to_transform": [1]},
        {"layers_to_transform": [0, 1], "target_modules": ["q_proj"]},
    ],
)
def test_what_matches_is_taken(options: dict[str, Any]) -> None:
    assert lora_config(tiny.make_model("llama"), options)
