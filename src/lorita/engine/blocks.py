"""The blocks of a model, layer after layer: what goes in and comes out, and other inputs instead.

Numbers of a whole model in a 16-bit format say little: rounding adds up over its layers. So each
layer is compared by itself, with the same input on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

MOST_KINDS = 6


@dataclass(frozen=True)
class Call:
    """One call of a block over some rows, with hidden states [T, D].

    ``natural`` is what the model would have given it, ``inputs`` what it was given. ``alone``:
    hidden states are all that it returns.
    """

    block: nn.Module
    natural: Tensor
    inputs: Tensor
    outputs: Tensor
    alone: bool = False

    def detached(self) -> Call:
        """The same without gradients."""
        tensors = (self.natural.detach(), self.inputs.detach(), self.outputs.detach())
        return Call(self.block, *tensors, self.alone)


def find_blocks(lm: nn.Module) -> list[nn.Module]:
    """The layers of a model: the members of its outermost lists of modules."""
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for module in lm.modules():
        if isinstance(module, nn.ModuleList) and module not in inside and len(module) > 1:
            found += list(module)
            inside |= set(module.modules())
    return found


@contextmanager
def recording(blocks: Sequence[nn.Module]) -> Iterator[list[Call]]:
    """In this context, calls of the blocks are recorded; each input is cut off from what made it.

    Outputs keep their gradients.
    """
    calls: list[Call] = []
    with _replacing_inputs(blocks, lambda call, hidden: hidden.detach(), calls):
        yield calls


@contextmanager
def forcing(expected: Sequence[Call], lengths: Sequence[int]) -> Iterator[list[Call]]:
    """As ``recording``, but the blocks are given the inputs of ``expected``, call after call.

    ``ValueError`` if they are called otherwise. Rows may lie end to end or be padded on the right.
    """
    calls: list[Call] = []

    def given(call: int, hidden: Tensor) -> Tensor:
        rows = expected[call].inputs.split(list(lengths))
        if hidden.shape[0] == 1:
            return torch.cat(rows)[None] if hidden.shape[1] == sum(lengths) else hidden
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    blocks = list(dict.fromkeys(call.block for call in expected))
    with _replacing_inputs(blocks, given, calls, lengths):
        yield calls
    if [call.block for call in calls] != [call.block for call in expected]:
        raise ValueError("layers are called in another order")


@contextmanager
def _replacing_inputs(
    blocks: Sequence[nn.Module],
    given: Any,
    calls: list[Call],
    lengths: Sequence[int] = (),
) -> Iterator[None]:
    inputs: list[tuple[Tensor, Tensor]] = []

    def before(block: nn.Module, args: Any, kwargs: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        if hidden.ndim != 3:
            raise ValueError("its input is not hidden states [B, L, D]")
        instead = given(len(inputs), hidden)
        inputs.append((hidden, instead))
        if args:
            return (instead, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": instead}

    def after(block: nn.Module, args: Any, output: Any) -> None:
        out = output[0] if isinstance(output, tuple) else output
        natural, instead = inputs[-1]
        alone = out is output and out.shape == instead.shape
        natural, instead, out = (_flat(hidden, lengths) for hidden in (natural, instead, out))
        calls.append(Call(block, natural, instead, out, alone))

    hooks = [block.register_forward_pre_hook(before, with_kwargs=True) for block in blocks]
    hooks += [block.register_forward_hook(after) for block in blocks]  # type: ignore[misc]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _flat(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
    """Rows end to end [T, D], without padding."""
    if hidden.shape[0] == 1:
        return hidden[0]
    return torch.cat([row[:length] for row, length in zip(hidden, lengths, strict=True)])


def joined(rows: Sequence[Sequence[Call]]) -> list[Call]:
    """The calls of several rows as calls over all of them.

    ``ValueError`` if not each row went the same way.
    """
    if len({tuple(call.block for call in calls) for calls in rows}) > 1:
        raise ValueError("rows go through different layers")
    return [
        Call(
            same[0].block,
            torch.cat([call.natural for call in same]),
            torch.cat([call.inputs for call in same]),
            torch.cat([call.outputs for call in same]),
        )
        for same in zip(*rows, strict=True)
    ]


def one_of_each_kind(calls: Sequence[Call]) -> list[Call]:
    """The first call of each kind of block: built of the same parts, with the same settings."""
    first: dict[str, Call] = {}
    for call in calls:
        first.setdefault(_kind(call.block), call)
    return list(first.values())[:MOST_KINDS]


def repeated(calls: Sequence[Call]) -> list[nn.Module]:
    """The blocks that are of the kind of one before them and return nothing but hidden states."""
    kept = {call.block for call in one_of_each_kind(calls)}
    kinds = {_kind(block) for block in kept}
    others = {call.block: call.alone for call in calls if call.block not in kept}
    return [block for block, alone in others.items() if alone and _kind(block) in kinds]


@contextmanager
def skipping(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """In this context, these blocks return what they are given."""
    with other_forwards(blocks, _unchanged):
        yield


@contextmanager
def other_forwards(blocks: Sequence[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """In this context, ``forward`` is called instead of each block's own."""
    own = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = forward
    try:
        yield
    finally:
        for block, before in zip(blocks, own, strict=True):
            if before is None:
                del block.forward
            else:
                block.forward = before


def _unchanged(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return hidden_states


def _kind(block: nn.Module) -> str:
    def settings(module: nn.Module) -> list[tuple[str, Any]]:
        return sorted(
            (name, value)
            for name, value in vars(module).items()
            if isinstance(value, (bool, int, float, str)) and not name.startswith("layer_")
        )

    return str([(type(module).__name__, settings(module)) for module in block.modules()])
