"""Every fact about an option is stated where the option is defined."""

from __future__ import annotations

import json
import typing

import pytest

from lorita.models.adapter import LORA_OPTIONS
from lorita.settings.build import build_settings
from lorita.settings.facts import facts, lora_options, options_where
from lorita.settings.option import facts_of, field_written, option
from lorita.settings.schema import RunSettings
from lorita.settings.types import choices_of

NAMES = {
    "not identity": (
        options_where(identity=False),
        "model revision trust_remote_code data data_name data_split data_revision file_type "
        "text_unit streaming eval_data map_row max_eval_samples logging_steps eval_steps "
        "save_steps save_total_limit resume resume_from_checkpoint compare_prompt max_new_tokens "
        "repetition_penalty proof output_dir overwrite push_to_hub hub_model_id micro_batch_tokens "
        "max_skipped_steps probe resume_inexact per_device_train_batch_size "
        "gradient_accumulation_steps time_budget report_to",
    ),
    "chosen for the rows": (
        options_where(chosen=True),
        "num_train_epochs per_device_train_batch_size adam_beta2 early_stopping_patience "
        "load_best_model_at_end eval_steps",
    ),
    "not compared when a sweep reuses a run": (
        options_where(reused=False),
        "output_dir overwrite resume resume_from_checkpoint logging_steps eval_steps save_steps "
        "save_total_limit proof resume_inexact report_to",
    ),
    "on the card": (
        options_where(on_card=True),
        "r lora_alpha lora_dropout bias target_modules learning_rate loraplus_lr_ratio "
        "num_train_epochs max_steps "
        "per_device_train_batch_size gradient_accumulation_steps lr_scheduler_type seed",
    ),
    "repeatable": (options_where(repeatable=True), "data compare_prompt"),
    "with commas": (
        options_where(holds_commas=True),
        "target_modules exclude_modules layers_to_transform modules_to_save rank_pattern "
        "alpha_pattern ignore_fields report_to add_tokens add_special_tokens",
    ),
    "swept": (
        options_where(swept=True),
        "r lora_alpha lora_dropout bias target_modules exclude_modules layers_to_transform "
        "modules_to_save rank_pattern alpha_pattern use_rslora use_dora init_lora_weights "
        "alora_invocation_tokens "
        "learning_rate loraplus_lr_ratio num_train_epochs max_steps per_device_train_batch_size "
        "gradient_accumulation_steps micro_batch_tokens lr_scheduler_type warmup_steps "
        "weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm max_skipped_steps "
        "early_stopping_patience load_best_model_at_end gradient_checkpointing seed speedup "
        "use_liger_kernel",
    ),
    "in a preview": (
        options_where(previewed=True),
        "model revision trust_remote_code dtype base_precision data data_name data_split "
        "data_revision file_type text_unit streaming format text_field text_template "
        "messages_field prompt_field completion_field map_row chat_template ignore_fields "
        "control_tokens add_tokens add_special_tokens train_on max_train_samples eval_data "
        "eval_fraction max_eval_samples max_length overflow packing seed",
    ),
    "LoRA": (options_where(group="LoRA"), " ".join(LORA_OPTIONS)),
}


@pytest.mark.parametrize("fact", NAMES)
def test_names(fact: str) -> None:
    found, names = NAMES[fact]
    assert set(found) == set(names.split())


def test_the_card_lists_options_in_this_order() -> None:
    found, names = NAMES["on the card"]
    assert list(found) == names.split()


def test_a_new_option_is_part_of_the_identity_and_private() -> None:
    stated = facts_of(option("Reports", "Something new.", None))
    assert stated.identity and stated.reused
    assert not (stated.on_card or stated.swept or stated.previewed)
    assert facts_of(option("LoRA", "Something new.", None)).swept
    assert facts_of(option("Data", "Something new.", None)).previewed


def test_lists_say_how_they_are_written() -> None:
    """Without that, the command line could not pass several values."""
    for name, field in RunSettings.model_fields.items():
        kinds = {typing.get_origin(kind) for kind in [field.annotation, *_parts(field.annotation)]}
        if kinds & {list, dict}:
            assert field_written(field) is not None, name


def _parts(annotation: object) -> list[object]:
    found: list[object] = []
    for part in typing.get_args(annotation):
        found += [part, *_parts(part)]
    return found


def test_choices() -> None:
    fields = RunSettings.model_fields
    assert choices_of(fields["base_precision"].annotation) == ("int8", "native", "q8", "q4")
    assert choices_of(fields["format"].annotation)[:2] == ("text", "prompt-completion")
    assert not choices_of(fields["init_lora_weights"].annotation)
    assert not choices_of(fields["target_modules"].annotation)
    assert not choices_of(fields["max_steps"].annotation)
    assert not choices_of(fields["use_cpu"].annotation)
    assert not choices_of(fields["load_best_model_at_end"].annotation)


def test_lora_options() -> None:
    settings = build_settings(model="m", data="d", r=3, rank_pattern="a=2", target_modules="a,b")
    everything = settings.model_dump()
    assert lora_options(settings) == {name: everything[name] for name in LORA_OPTIONS}


def test_evaluation_decides() -> None:
    assert not build_settings(model="m", data="d").evaluation_decides
    assert build_settings(model="m", data="d", load_best_model_at_end=True).evaluation_decides
    assert build_settings(model="m", data="d", early_stopping_patience=1).evaluation_decides


def test_the_json_schema_has_the_groups() -> None:
    """What a form shows: the class's own schema can be written as JSON."""
    schema = json.loads(json.dumps(RunSettings.model_json_schema()))
    assert schema["properties"]["r"]["group"] == facts("r").group == "LoRA"
