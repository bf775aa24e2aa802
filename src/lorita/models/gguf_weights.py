"""The weights of a GGUF file as a model, in the order and under the names of transformers.

Families that ``gguf_layout`` does not know are read with transformers' own rules
(``gguf_other_weights``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.models.gguf_layout import reading_layout
from lorita.models.gguf_model import Loaded, ReadTensor, filled_model, model_shell, unused_in
from lorita.models.gguf_other_weights import load_other
from lorita.models.gguf_sources import Source, sources

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

    from lorita.models.gguf_files import GgufFile


def load_weights(
    file: GgufFile,
    read: ReadTensor,
    config: PretrainedConfig,
    dtype: torch.dtype,
    keep: ReadTensor | None = None,
) -> Loaded:
    """The model in ``dtype``; ``ModelError`` if the file does not fit its own header.

    ``read`` reads one tensor (``gguf_tensors.read_tensor``). ``keep`` reads a matrix that is the
    file's own, row by row, if such are to stay as they are there (``gguf_tensors.read_blocks``).
    """
    layout = reading_layout(config)
    if layout is None:
        return load_other(file, read, config, dtype)
    shell = model_shell(config, dtype)
    shapes = {name: tuple(weight.shape) for name, weight in shell.state_dict().items()}
    reading = _Reading(file, read, keep, dtype)
    state = {}
    taken = set()
    for source in sources(file, layout, config, shapes):
        state[source.name] = reading.weight(source)
        taken |= {stored.name for stored in source.stored}
    return filled_model(shell, state, unused_in(file, taken))


@dataclass(frozen=True)
class _Reading:
    """How weights are read from a file: into ``dtype``, or kept as they are by ``keep``."""

    file: GgufFile
    read: ReadTensor
    keep: ReadTensor | None
    dtype: torch.dtype

    def weight(self, source: Source) -> torch.Tensor:
        """One weight of the model."""
        if len(source.stored) > 1:
            return self._joined(source)
        (stored,) = source.stored
        if self.keep is not None and source.stays:
            tensor = self.keep(stored, self.dtype, source.order)
        elif source.back is not None:
            tensor = source.back(self.read(stored, self._precise(source), source.order))
            tensor = tensor.to(self.dtype).contiguous()
        else:
            tensor = self.read(stored, self.dtype, source.order)
        source.check(self.file, tuple(tensor.shape))
        return tensor

    def _precise(self, source: Source) -> torch.dtype:
        """In which numbers a tensor is turned into the model's: only vectors are computed with."""
        import torch

        return torch.float32 if len(source.shape) == 1 else self.dtype

    def _joined(self, source: Source) -> torch.Tensor:
        """Tensors whose rows follow one another, each read into its place."""
        import torch

        *outer, _, width = source.stored[0].shape
        rows = sum(stored.shape[-2] for stored in source.stored if len(stored.shape) > 1)
        source.check(self.file, (*outer, rows, width))
        if self.keep is not None and source.stays:
            from lorita.engine.block_tensor import with_all_rows

            return with_all_rows([self.keep(each, self.dtype, None) for each in source.stored])
        out = torch.empty(source.shape, dtype=self.dtype)
        first = 0
        for stored in source.stored:
            end = first + stored.shape[-2]
            out[..., first:end, :] = self.read(stored, self.dtype, None)
            first = end
        return out
