"""How fast a run trains, and how long it will take, from its steps so far."""

from __future__ import annotations

from lorita.system.durations import duration
from lorita.training.events import StepDone


class Rate:
    """Tokens per second and time left, from the steps seen so far."""

    def __init__(self, max_steps: int = 0, first_step: int = 0) -> None:
        self.max_steps, self.first_step = max_steps, first_step
        self.tokens, self.seconds = 0, 0.0

    def count(self, event: StepDone) -> None:
        """Count a step that was done."""
        self.tokens += event.tokens
        self.seconds += event.seconds

    def parts(self, event: StepDone) -> list[str]:
        """The step in words, what matters most first: step, time left, loss, speed, rate."""
        done = event.step - self.first_step
        left = self.seconds / done * (self.max_steps - event.step)
        return [
            f"step {event.step}/{self.max_steps}",
            f"{duration(left)} left",
            f"loss {event.loss:.4f}",
            f"{self.tokens / max(self.seconds, 1e-9):,.0f} tokens/s",
            f"lr {event.learning_rate:.2e}",
        ]

    def step_line(self, event: StepDone) -> str:
        """Count a step, and describe it in a line."""
        self.count(event)
        step, left, loss, speed, rate = self.parts(event)
        return "  ".join([step, loss, rate, speed, left])
