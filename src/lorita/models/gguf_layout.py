"""How a model's tensors are named and laid out in a GGUF file.

Names come from gguf-py's own maps. What those lack is here, one line per difference: rows in a
different order (Llama's rotary halves, BLOOM's heads), transposed matrices (GPT-2), norms that
are stored with an offset (Gemma). Metadata and tokenizer are written by ``export.gguf``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.errors import UserError
from lorita.models.gguf_newer import (
    ALTUP,
    EXPERT_BIAS,
    GEMMA4,
    JOINT_DELTA_NET,
    MAMBA1,
    MIXER,
    groups_last,
    keys_of_sharing_layers,
)
from lorita.models.gguf_pieces import (
    DELTA_NET,
    EXPERTS,
    GRANITE_DENSE,
    GRANITE_EXPERTS,
    MAMBA2,
    SHORT_CONVOLUTION,
    Piece,
    RowOrder,
    value_order,
)

if TYPE_CHECKING:
    import torch


def rotary_pairs(heads_of: Callable[[Any], int]) -> RowOrder:
    """The row order of Llama's files: they interleave a head's halves, transformers concatenates.

    ``heads_of`` returns the number of heads from a configuration.
    """

    def order(config: Any, rows: int) -> torch.Tensor:
        import torch

        heads = heads_of(config)
        index = torch.arange(rows).view(heads, 2, rows // heads // 2)
        return index.transpose(1, 2).reshape(-1)

    return order


def heads_last(config: Any, rows: int) -> torch.Tensor:
    """The row order for BLOOM and GPT-NeoX: q, k, v per head become all q, all k, all v."""
    import torch

    heads = config.num_attention_heads
    return torch.arange(rows).view(heads, 3, -1).transpose(0, 1).reshape(-1)


_QUERIES = rotary_pairs(lambda config: int(config.num_attention_heads))
_KEYS = rotary_pairs(lambda config: int(config.num_key_value_heads or config.num_attention_heads))
_ROTARY = ((r"\.q_proj$", _QUERIES), (r"\.k_proj$", _KEYS))
_FUSED = ((r"\.query_key_value$", heads_last),)
_PER_LAYER = r"\.(per_layer_model_projection|embed_tokens_per_layer)$"


@dataclass(frozen=True)
class Layout:
    """How the tensors of one family differ between transformers and a GGUF file.

    ``rows``: modules whose output rows are in a different order. ``transposed``: modules whose
    weight transformers stores as [in, out]. ``norm_offset``: added to every norm's weight.
    ``output``: the file has an output matrix even if it is tied to the embedding (``None``: never).
    """

    architecture: str
    rows: tuple[tuple[str, RowOrder], ...] = ()
    transposed: str | None = None
    norm_offset: float = 0.0
    output: bool | None = False
    pieces: tuple[Piece, ...] = ()
    """Tensors that are stored as something else."""
    columns: tuple[tuple[str, Callable[[Any], torch.Tensor]], ...] = ()
    """Modules whose inputs are in another order, from the configuration."""
    stacked: tuple[tuple[str, str], ...] = ()
    """Patterns of modules whose weights are one tensor of the file, and its name."""
    unused: Callable[[Any], dict[str, tuple[int, ...]]] | None = None
    """Tensors that the file must have and nobody reads, with their shapes: they are zeros."""
    no_adapter: str | None = None
    """Modules on which llama.cpp puts no adapter, though it would load one."""

    def stack_of(self, name: str) -> str | None:
        """The tensor of the file in which a tensor of the model is one of several."""
        module, _, leaf = name.rpartition(".")
        found = (to for pattern, to in self.stacked if re.search(pattern, module))
        return next(found, None) if leaf == "weight" else None

    def takes_adapter(self, module: str) -> bool:
        """Whether llama.cpp would apply an adapter on a module."""
        return self.no_adapter is None or re.search(self.no_adapter, module) is None

    def row_order(self, module: str, config: Any, rows: int) -> torch.Tensor | None:
        """The order of a module's output rows in the file; None if it is that of the model."""
        for pattern, order in self.rows:
            if re.search(pattern, module):
                return order(config, rows)
        return None

    def column_order(self, module: str, config: Any) -> torch.Tensor | None:
        """The order of a module's inputs in the file; None if it is that of the model."""
        for pattern, order in self.columns:
            if re.search(pattern, module):
                return order(config)
        return None

    def piece_of(self, name: str) -> Piece | None:
        """What a tensor of the model is stored as instead of itself; None if it is stored so."""
        return next((piece for piece in self.pieces if piece.file_names(name) is not None), None)

    def turns(self, module: str) -> bool:
        """Whether a module's weight is stored as [in, out] and must be transposed for the file."""
        return bool(self.transposed and re.search(self.transposed, module))

    def to_file(self, name: str, tensor: torch.Tensor, config: Any) -> torch.Tensor:
        """A weight or bias of the model in the form in which the file stores it."""
        module, _, leaf = name.rpartition(".")
        if leaf == "weight" and self.turns(module):
            tensor = tensor.T
        if self.norm_offset and name.endswith("norm.weight"):
            tensor = tensor + self.norm_offset
        inputs = self.column_order(module, config)
        if inputs is not None and leaf == "weight":
            tensor = tensor[:, inputs]
        order = self.row_order(module, config, tensor.shape[0])
        return tensor if order is None else tensor[order]

    def in_file(
        self, name: str, tensor: torch.Tensor, config: Any, names: TensorNames
    ) -> list[tuple[str, torch.Tensor]]:
        """What a tensor of the model is in the file, with the names; none if it has no place there.

        ``tensor`` may be on the meta device, for the shapes alone.
        """
        if (piece := self.piece_of(name)) is not None:
            in_file = piece.file_names(name) or ()
            return list(zip(in_file, piece.convert(config, tensor), strict=True))
        found = names.of(name)
        return [] if found is None else [(found, self.to_file(name, tensor, config))]


LAYOUTS = {
    "llama": Layout("llama", rows=_ROTARY),
    "mistral": Layout("llama", rows=_ROTARY),
    "granite": Layout("granite", rows=_ROTARY),
    "qwen2": Layout("qwen2"),
    "qwen3": Layout("qwen3"),
    "gemma": Layout("gemma", norm_offset=1.0, output=None),
    "gemma2": Layout("gemma2", norm_offset=1.0, output=None),
    "gemma3_text": Layout("gemma3", norm_offset=1.0),
    "phi3": Layout("phi3"),
    "gpt2": Layout("gpt2", transposed=r"\.(c_attn|c_proj|c_fc)$"),
    "gpt_neox": Layout("gptneox", rows=_FUSED, output=True),
    "bloom": Layout("bloom", rows=_FUSED),
    "starcoder2": Layout("starcoder2"),
    "olmo2": Layout("olmo2", output=True),
    "olmo3": Layout("olmo2", output=True),
    "smollm3": Layout("smollm3", rows=_ROTARY),
    "ministral": Layout("llama", rows=_ROTARY),
    "ministral3": Layout("mistral3", rows=_ROTARY),
    "lfm2": Layout("lfm2", pieces=SHORT_CONVOLUTION),
    "qwen3_moe": Layout("qwen3moe", pieces=EXPERTS),
    "granitemoe": Layout("granite_moe", rows=_ROTARY, pieces=GRANITE_EXPERTS),
    "granitemoehybrid": Layout("granite_hybrid", rows=_ROTARY, pieces=(*MAMBA2, *GRANITE_EXPERTS)),
    "granitemoehybrid, dense": Layout(
        "granite_hybrid", rows=_ROTARY, pieces=(*MAMBA2, *GRANITE_DENSE)
    ),
    "granitemoehybrid, attention": Layout("granite_moe", rows=_ROTARY, pieces=GRANITE_EXPERTS),
    "granitemoehybrid, attention, dense": Layout("granite", rows=_ROTARY, pieces=GRANITE_DENSE),
    "qwen3_5_text": Layout(
        "qwen35",
        norm_offset=1.0,
        pieces=DELTA_NET,
        columns=((r"linear_attn\.out_proj$", value_order),),
    ),
    "qwen3_5_moe_text": Layout(
        "qwen35moe",
        norm_offset=1.0,
        pieces=(*DELTA_NET, *EXPERTS),
        columns=((r"linear_attn\.out_proj$", value_order),),
    ),
    "qwen3_next": Layout("qwen3next", norm_offset=1.0, pieces=(*JOINT_DELTA_NET, *EXPERTS)),
    "gemma3n_text": Layout(
        "gemma3n",
        pieces=ALTUP,
        stacked=(
            (r"\.altup_projections\.\d+$", "altup_proj.weight"),
            (r"\.altup_unembed_projections\.\d+$", "altup_unembd_proj.weight"),
        ),
        unused=keys_of_sharing_layers,
        no_adapter=_PER_LAYER + r"|\.altup_(unembed_)?projections\.|\.modality_router$",
    ),
    "gemma4_text": Layout("gemma4", pieces=GEMMA4, no_adapter=_PER_LAYER),
    "mixtral": Layout("llama", rows=_ROTARY, pieces=EXPERTS),
    "olmoe": Layout("olmoe", output=True, pieces=EXPERTS),
    "lfm2_moe": Layout("lfm2moe", pieces=(*SHORT_CONVOLUTION, *EXPERTS, *EXPERT_BIAS)),
    "cohere2": Layout("cohere2", output=None),
    "mamba2": Layout("mamba2", pieces=MIXER),
    "jamba": Layout("jamba", pieces=(*MAMBA1, *EXPERTS)),
    "falcon": Layout("falcon", rows=((r"\.query_key_value$", groups_last),)),
}
"""The GGUF layout of each supported ``model_type`` of transformers; some have several."""
WRITTEN_ONLY = {
    "gemma", "gemma3n_text", "gemma4_text", "mixtral", "olmoe", "lfm2_moe", "cohere2", "mamba2",
    "jamba", "falcon", "qwen3_5_moe_text", "qwen3_next",
}  # fmt: skip
"""Those whose files are not read by their layout."""
READ = [kind for kind in LAYOUTS if kind not in WRITTEN_ONLY and "," not in kind]


def text_config(config: Any) -> Any:
    """The configuration of the part that writes text; of a model of text alone, its own."""
    return config.get_text_config(decoder=True)


_TEXT_PART = re.compile(r"(language|text)_model\.")


def is_language_part(name: str) -> bool:
    """Whether a tensor of a model that also reads images belongs to the part that writes text."""
    return bool(_TEXT_PART.search(name)) or name.endswith("lm_head.weight")


def _kind(config: Any) -> str:
    """The key of a configuration in ``LAYOUTS``."""
    config = text_config(config)
    kind = str(config.model_type)
    if kind == "granitemoehybrid":
        kind += "" if "linear_attention" in config.layer_types else ", attention"
        kind += "" if config.num_local_experts else ", dense"
    return kind


def layout_of(config: Any) -> Layout | None:
    """The layout for a configuration; None for a family not in the table."""
    return LAYOUTS.get(_kind(config))


def reading_layout(config: Any) -> Layout | None:
    """The layout by which a file of a configuration is read; None where there is none."""
    return None if _kind(config) in WRITTEN_ONLY else layout_of(config)


def find_layout(config: Any, name: str) -> Layout:
    """As ``layout_of``, but ``UserError`` for a family not in the table.

    ``name`` is what the message calls the model.
    """
    layout = layout_of(config)
    if layout is None:
        raise UserError(
            f"{name}: lorita knows no GGUF layout for {config.model_type}",
            hint="Merge it (lorita merge) and convert the folder with llama.cpp's "
            f"convert_hf_to_gguf.py. Supported: {', '.join(k for k in LAYOUTS if ',' not in k)}.",
        )
    return layout


class TensorNames:
    """The names of a model's tensors in a GGUF file, from gguf-py's maps (needs gguf)."""

    def __init__(self, layout: Layout, config: Any) -> None:
        import gguf

        architecture = gguf.MODEL_ARCH[layout.architecture.upper()]
        layers = text_config(config).num_hidden_layers
        self._map = gguf.get_tensor_name_map(architecture, layers)

    def of(self, name: str) -> str | None:
        """The file's name for a tensor of the model; None if the file has no such tensor."""
        suffixes = (".weight", ".bias")
        name = _TEXT_PART.sub("", name)
        found: str | None = self._map.get_name(name, try_suffixes=suffixes)
        short = name.removeprefix("transformer.")
        return found or self._map.get_name(short, try_suffixes=suffixes)
