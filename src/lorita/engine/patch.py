"""The fast forwards on one model: set on its module instances, shared state, removed again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch import Tensor, nn

from lorita.engine.autocast import NarrowCopies
from lorita.engine.graphs import untraced
from lorita.engine.kernels.head_layout import Rotation
from lorita.engine.kernels.row_layout import RowLayout

if TYPE_CHECKING:
    from lorita.engine.lora_linear import Group

INTERFACE = "lorita"
"""The engine's name in transformers' registry of attention functions."""
_MARK = "_lorita_patch"
_STATE = "_lorita_state"


class Before(Protocol):
    """Keys and values of tokens that come before those of a call."""

    def joined(
        self, place: object, k_S1d: Tensor, v_S1d: Tensor, rows: RowLayout
    ) -> tuple[Tensor, Tensor]:
        """The keys and values that attention is given in this ``place`` of the model."""


@dataclass
class CallState:
    """State shared by the forwards of one model.

    ``layout`` is that of the last call and stays until the next one: gradient checkpointing
    recomputes layers in the backward pass, after the call has returned.
    """

    layout: RowLayout | None = None
    kept: Before | None = None
    """What has the keys and values of the tokens before the rows, or keeps those of this call."""
    _angles: tuple[Tensor, Rotation] | None = None

    def rows_of(self, hidden: Tensor) -> RowLayout | None:
        """The rows packed in ``hidden`` [1, T, …]; None in an ordinary call."""
        rows = self.layout
        if rows is None or hidden.shape[0] != 1 or hidden.shape[1] != rows.num_tokens:
            return None
        return rows

    def rotation(self, embeddings: tuple[Tensor, Tensor] | None) -> Rotation | None:
        """cos and sin [T, f] in float32 from transformers' [1, T, 2·f], whose halves are equal."""
        if embeddings is None:
            return None
        cos, sin = embeddings
        if self._angles is None or self._angles[0] is not cos:
            f = cos.shape[-1] // 2
            halves = (t[0, :, :f].float().contiguous() for t in (cos, sin))
            self._angles = (cos, Rotation(*halves))
        return self._angles[1]


@dataclass
class Patch:
    """The forwards that were set on one model."""

    state: CallState = field(default_factory=CallState)
    forwards: list[tuple[nn.Module, Any]] = field(default_factory=list)
    rows: Literal["packed", "padded", "alone"] = "padded"
    """How rows are computed together: end to end without padding, where every attention module can
    keep them apart; else side by side, padded; or each on its own, where padding changes them."""
    has_own_loss: bool = False
    """The model's loss is not the mean loss of its next tokens: callers get it from the model."""
    groups: list[Group] = field(default_factory=list)
    """The linear layers that the forwards compute themselves."""
    copies: NarrowCopies = field(default_factory=NarrowCopies)
    """Of the output head."""
    calls: Counter[str] = field(default_factory=Counter)
    """How many training calls were computed by the ``fast`` step, and by the model's ``own``."""
    told: set[str] = field(default_factory=set)
    """What was said already, such as why a call was computed by the model's own forward."""
    undone: bool = False
    """Another library may have wrapped a forward that was removed: it only passes calls on."""
    _callers: list[nn.Module] = field(default_factory=list)
    """Modules that find ``state`` on themselves."""
    _implementations: list[tuple[Any, str]] = field(default_factory=list)
    """The model's configs that name an attention function, and the name of their own."""

    @property
    def packs_rows(self) -> bool:
        """Whether rows are computed end to end, without padding."""
        return self.rows == "packed"

    def put(self, module: nn.Module, forward: Any) -> None:
        """Set ``forward`` on the module instance."""
        forward = untraced(forward, self.told)
        module.forward = forward
        self.forwards.append((module, forward))

    def use_interface(self, lm: Any) -> None:
        """Let packed calls use the attention function registered as ``INTERFACE``."""
        configs = {}
        self._callers = list(lm.modules())
        for module in self._callers:
            vars(module)[_STATE] = self.state
            config: Any = getattr(module, "config", None)
            if getattr(config, "_attn_implementation", None) is not None:
                configs[id(config)] = config
        self._implementations = [(c, c._attn_implementation) for c in configs.values()]

    def pack(self, rows: RowLayout, kept: Before | None = None) -> None:
        """Prepare for a call over packed rows.

        It stays so until ``unpack``, for gradient checkpointing: see ``CallState``.
        """
        self.state.layout, self.state.kept = rows, kept
        for config, _ in self._implementations:
            config._attn_implementation = INTERFACE

    def unpack(self) -> None:
        """Prepare for an ordinary call: the model's own attention."""
        self.state.layout = self.state.kept = None
        for config, name in self._implementations:
            config._attn_implementation = name

    def undo(self) -> None:
        """Remove every forward."""
        for module, forward in self.forwards:
            # Another library may have set a forward over this one (TRL does); that one stays.
            if vars(module).get("forward") is forward:
                del module.forward
        for module in self._callers:
            vars(module).pop(_STATE, None)
        self.unpack()
        self.undone = True
        self.forwards, self.groups, self.copies = [], [], NarrowCopies()


def patch_of(lm: nn.Module) -> Patch | None:
    """The patch that is on this model; None if there is none."""
    return getattr(lm, _MARK, None)


def mark(lm: nn.Module, patch: Patch | None) -> None:
    """Record on the model which patch it has; None for none."""
    if patch is not None:
        setattr(lm, _MARK, patch)
    elif patch_of(lm) is not None:
        delattr(lm, _MARK)


def state_of(module: nn.Module) -> CallState:
    """The shared state, from a module that calls attention through the interface."""
    state: CallState = getattr(module, _STATE)
    return state
