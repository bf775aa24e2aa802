"""Code that comes with a model, which writes a canary file as soon as it is imported."""

from __future__ import annotations

MODELLING = """
from pathlib import Path
Path({canary!r}).write_text("run")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class OddConfig(LlamaConfig):
    model_type = "odd"
class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig
class OddTokenizer(PreTrainedTokenizerFast):
    pass
"""
"""``canary`` is the file to write."""
