"""The scale of the adapters of a sweep: runs that compare ranks must not differ in it by the way.

An adapter's output is multiplied by lora_alpha/r, or lora_alpha/sqrt(r) with ``use_rslora``. Where
ranks are swept and lora_alpha was left alone, it follows them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from lorita.settings.facts import divisor, scale_of

if TYPE_CHECKING:
    from lorita.settings.schema import RunSettings
    from lorita.workflows.sweep_grid import Point


def keep_scale(settings: RunSettings, base: RunSettings, chosen: Collection[str]) -> RunSettings:
    """``settings`` with the scale of ``base``, which has the ranks that are not swept.

    ``chosen`` are the options that somebody gave or sweeps: they stay as they are.
    """
    if "lora_alpha" in chosen or not {"r", "rank_pattern"}.intersection(chosen):
        return settings
    rslora = settings.use_rslora

    def following(alpha: float, rank_before: int, rank: int) -> float:
        return float(f"{alpha / divisor(rank_before, rslora) * divisor(rank, rslora):.12g}")

    alpha = following(base.lora_alpha, base.r, settings.r)
    change: dict[str, object] = {"lora_alpha": alpha}
    before, now = base.rank_pattern or {}, settings.rank_pattern or {}
    alphas = base.alpha_pattern or {}
    if (now or alphas) and "alpha_pattern" not in chosen:
        change["alpha_pattern"] = {
            name: following(
                alphas.get(name, base.lora_alpha),
                before.get(name, base.r),
                now.get(name, settings.r),
            )
            for name in {**alphas, **now}
        }
    return settings.model_copy(update=change)


def scale_note(points: Sequence[Point]) -> str | None:
    """A sentence on what the swept options do to the scale; None if they leave it alone."""
    first = points[0]
    if "lora_alpha" in first.values:
        return None
    places = {
        (p.settings.r, p.settings.use_rslora, p.settings.lora_alpha): scale_of(p.settings)
        for p in points
    }
    each = ", ".join(f"r {r}: lora_alpha {alpha:g}" for r, _, alpha in places)
    if len({alpha for *_, alpha in places}) > 1:
        same = {f"{scale:.4g}" for scale in places.values()}
        what = "lora_alpha/sqrt(r)" if first.settings.use_rslora else "lora_alpha/r"
        stays = f" and {what} stays {same.pop()}" if len(same) == 1 else ""
        return f"lora_alpha follows r{stays} ({each}). To choose it, give --lora-alpha."
    if len(set(places.values())) > 1:
        scales = [f"{scale:.3g}" for scale in places.values()]
        return (
            f"These runs also differ in the scale of the adapter ({', '.join(scales)}), because "
            f"lora_alpha is {first.settings.lora_alpha:g} in all of them"
        )
    return None
