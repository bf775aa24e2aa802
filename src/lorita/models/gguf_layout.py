"""Where a model's tensors lie in a GGUF file, and in what order their rows stand there.

Names come from gguf-py's own maps. What it does not hold is here, one line per difference: rows
in another order (Llama's rotary halves, BLOOM's heads), transposed matrices (GPT-2), norms that
GGUF counts from zero (Gemma). Metadata and tokenizer are elsewhere (``export/metadata.py``,
``export/vocabulary.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.errors import UserError

if TYPE_CHECKING:
    import torch

RowOrder = Callable[[Any, int], "torch.Tensor"]
"""(configuration, rows) → for each row in the file, the row of the model that stands there."""


def rotary_pairs(heads_of: Callable[[Any], int]) -> RowOrder:
    """Llama's files keep a head's two halves interleaved, transformers one after another."""

    def order(config: Any, rows: int) -> torch.Tensor:
        import torch

        heads = heads_of(config)
        index = torch.arange(rows).view(heads, 2, rows // heads // 2)
        return index.transpose(1, 2).reshape(-1)

    return order


def heads_last(config: Any, rows: int) -> torch.Tensor:
    """BLOOM and GPT-NeoX keep q, k, v head by head; their files keep all q, all k, all v."""
    import torch

    heads = config.num_attention_heads
    return torch.arange(rows).view(heads, 3, -1).transpose(0, 1).reshape(-1)


_QUERIES = rotary_pairs(lambda config: int(config.num_attention_heads))
_KEYS = rotary_pairs(lambda config: int(config.num_key_value_heads or config.num_attention_heads))
_ROTARY = ((r"\.q_proj$", _QUERIES), (r"\.k_proj$", _KEYS))
_FUSED = ((r"\.query_key_value$", heads_last),)


@dataclass(frozen=True)
class Layout:
    """How one family's tensors differ from what transformers holds.

    ``rows``: modules whose output rows stand in another order. ``transposed``: modules whose
    weight is kept as [in, out]. ``norm_offset``: added to every norm's weight. ``output``: the
    file has an output matrix even where it is the embedding's (``None``: never has one).
    """

    architecture: str
    rows: tuple[tuple[str, RowOrder], ...] = ()
    transposed: str | None = None
    norm_offset: float = 0.0
    output: bool | None = False

    def row_order(self, module: str, config: Any, rows: int) -> torch.Tensor | None:
        """The order of a module's output rows in the file; None where it is the model's."""
        for pattern, order in self.rows:
            if re.search(pattern, module):
                return order(config, rows)
        return None

    def turns(self, module: str) -> bool:
        """Whether a module's weight is kept as [in, out] and turned for the file."""
        return bool(self.transposed and re.search(self.transposed, module))

    def to_file(self, name: str, tensor: torch.Tensor, config: Any) -> torch.Tensor:
        """A weight or bias of the model as it stands in the file."""
        module, _, leaf = name.rpartition(".")
        if leaf == "weight" and self.turns(module):
            tensor = tensor.T
        if self.norm_offset and name.endswith("norm.weight"):
            tensor = tensor + self.norm_offset
        order = self.row_order(module, config, tensor.shape[0])
        return tensor if order is None else tensor[order]


LAYOUTS = {
    "llama": Layout("llama", rows=_ROTARY),
    "mistral": Layout("llama", rows=_ROTARY),
    "granite": Layout("granite", rows=_ROTARY),
    "qwen2": Layout("qwen2"),
    "qwen3": Layout("qwen3"),
    "gemma2": Layout("gemma2", norm_offset=1.0, output=None),
    "gemma3_text": Layout("gemma3", norm_offset=1.0),
    "phi3": Layout("phi3"),
    "gpt2": Layout("gpt2", transposed=r"\.(c_attn|c_proj|c_fc)$"),
    "gpt_neox": Layout("gptneox", rows=_FUSED, output=True),
    "bloom": Layout("bloom", rows=_FUSED),
    "starcoder2": Layout("starcoder2"),
    "olmo2": Layout("olmo2", output=True),
}
"""transformers' ``model_type``: the layout of its GGUF files."""


def find_layout(config: Any, name: str) -> Layout:
    """The layout for a configuration; ``UserError`` for a family that is not in the table."""
    if config.model_type not in LAYOUTS:
        raise UserError(
            f"{name}: no GGUF layout is known here for {config.model_type}",
            hint="Merge it (lorita merge) and convert the folder with llama.cpp's "
            f"convert_hf_to_gguf.py. Known are {', '.join(LAYOUTS)}.",
        )
    return LAYOUTS[config.model_type]


class TensorNames:
    """The names of a model's tensors in a GGUF file, from gguf-py's maps."""

    def __init__(self, layout: Layout, config: Any) -> None:
        import gguf

        architecture = gguf.MODEL_ARCH[layout.architecture.upper()]
        self._map = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)

    def of(self, name: str) -> str | None:
        """The file's name for a tensor of the model; None where the file has no such tensor."""
        suffixes = (".weight", ".bias")
        found: str | None = self._map.get_name(name, try_suffixes=suffixes)
        short = name.removeprefix("transformer.")
        return found or self._map.get_name(short, try_suffixes=suffixes)
