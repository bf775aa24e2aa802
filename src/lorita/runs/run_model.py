"""One base model through a run: an adapter attached, trained, compared with the base, reloaded.

"Before" is measured last, so that training starts at once and what it gave is safe on disk first.
The adapter is taken off for it, trained biases put back: with ``bias`` other than ``none``,
switching an adapter off does not give the base back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from lorita.data.examples import token_lengths
from lorita.engine.frozen_layers import BottomCache, bottom_cache
from lorita.engine.numerics import int8_reason
from lorita.engine.speedup import speedup, unspeed
from lorita.errors import SettingsError
from lorita.evaluation.checks import Check, check_adapter, check_moved, check_reload
from lorita.evaluation.comparison import Answer, Comparison, held_out_figures
from lorita.evaluation.measure import ANSWERS, Questions, ask, make_proof, make_questions
from lorita.evaluation.prompts import prompts_of
from lorita.evaluation.proof import Proof
from lorita.evaluation.scores import score_rows
from lorita.inference.generation import GenerationOptions, generate
from lorita.inference.prompt_length import fits, positions_in_table, prompt_ids
from lorita.models import adapter as adapters
from lorita.models.fingerprint import fingerprint
from lorita.runs.loaded_base import LoadedBase, Measured, load_base
from lorita.runs.prepare import Prepared
from lorita.runs.training_job import Job
from lorita.settings.schema import RunSettings
from lorita.system.memory import available_memory
from lorita.training.events import Event, Note
from lorita.training.objective import LossSum, end_to_end_loss, padded_loss
from lorita.training.stop_request import StopRequest
from lorita.training.token_budget import bytes_per_token

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class Session:
    """Holds the model of one run while it changes."""

    def __init__(
        self, settings: RunSettings, prepared: Prepared, loaded: LoadedBase | None = None
    ) -> None:
        self.settings = settings
        self.prepared = prepared
        self.loaded = loaded or load_base(settings, prepared)
        self.accelerator = self.loaded.accelerator
        self.dtype = self.loaded.dtype
        self.notes = list(self.loaded.notes)
        self.model = self.loaded.model
        self.fingerprint = fingerprint(self.model)
        self.lora = adapters.lora_config(self.model, settings.model_dump())
        self.prompts = self._prompts()
        self.bottom: BottomCache | None = None

    def take_notes(self) -> list[str]:
        """What there is to say since the last time."""
        notes, self.notes = self.notes, []
        return notes

    def _prompts(self) -> list[str]:
        tokenizer, asked = self.prepared.tokenizer, self.prepared.data.prompt_format
        for prompt in self.settings.compare_prompt:
            prompt_ids(tokenizer, prompt, asked, positions_in_table(self.model))
        return self.settings.compare_prompt or self._prompts_of_rows(3)

    def _prompts_of_rows(self, count: int) -> list[str]:
        tokenizer, asked = self.prepared.tokenizer, self.prepared.data.prompt_format
        return prompts_of(self.prepared.data.shown, count, fits(self.model, tokenizer, asked))

    def attach(self) -> None:
        """Put a new adapter on."""
        self._untouched = adapters.untouched(self.model)
        self.peft_model = adapters.attach(self.model, self.lora, seed=self.settings.seed)
        self.parameter_line = adapters.parameter_line(self.peft_model)
        self.checkpointing = self.settings.gradient_checkpointing or self._row_is_too_large()
        if self.checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
            self.model.enable_input_require_grads()
        if self.settings.speedup:
            self._speed_up()
            self._keep_bottom()

    def _row_is_too_large(self) -> bool:
        """Whether the longest row needs more memory than there is, unless activations are computed
        again: a micro-batch cannot be smaller than a row."""
        longest = max(token_lengths(self.prepared.data.train))
        needs = longest * bytes_per_token(
            self.prepared.config, self.dtype.itemsize, fast=self.settings.speedup
        )
        free = available_memory()
        if free is None or needs <= 0.8 * free or not self.model.supports_gradient_checkpointing:
            return False
        self.notes.append(
            f"The longest row ({longest:,} tokens) would need some {needs / 1e9:.1f} GB of "
            f"activations, {free / 1e9:.1f} GB are free: they are computed again in the backward "
            "pass, as with --gradient-checkpointing"
        )
        return True

    def _speed_up(self) -> None:
        """Put the fast step in, and say what was chosen and why."""
        precision = self.settings.base_precision
        if precision is not None and self.accelerator.device.type == "cpu":
            self.notes.append(int8_reason(self.dtype))
        try:
            report = speedup(
                self.peft_model,
                base_precision=precision,
                use_liger_kernel=self.settings.use_liger_kernel,
            )
        except ValueError as error:
            raise SettingsError(str(error)) from error
        self.notes += report.lines()

    def _keep_bottom(self) -> None:
        """With only upper layers adapted, the lower ones are computed once a row."""
        if self.settings.layers_to_transform is None:
            return
        limit = (available_memory() or 2**30) // 4
        cache = bottom_cache(self.model, limit)
        if isinstance(cache, str):
            self.notes.append(f"Lower layers are computed every epoch: {cache}")
            return
        self.bottom = cache
        self.notes.append(f"Layers below {cache.first} are computed once a row and kept")

    def loss_sum(self) -> LossSum:
        device = self.accelerator.device
        if self.settings.speedup:
            return end_to_end_loss(self.model, device=device, bottom=self.bottom)
        return padded_loss(self.model, pad_id=self.prepared.tokenizer.eos_token_id, device=device)

    def measure(self) -> Measured:
        """The model as it is now: answers to the prompts, loss on the held-out rows."""
        options = GenerationOptions(
            max_new_tokens=self.settings.max_new_tokens,
            repetition_penalty=self.settings.repetition_penalty,
        )
        answers = generate(
            self.model,
            self.prepared.tokenizer,
            self.prompts,
            options,
            self.prepared.data.prompt_format,
        )
        logits = [self._logits(prompt) for prompt in self.prompts]
        device, held_out = self.accelerator.device, self.prepared.data.held_out
        if self.settings.proof:
            witness = ask(self.model, self.questions, device)
            return Measured(answers, witness.held_out, witness, logits)
        loss = score_rows(self.model, held_out, device).rows() if held_out else None
        return Measured(answers, loss, None, logits)

    @cached_property
    def questions(self) -> Questions:
        """What both models are asked for the proof."""
        data = self.prepared.data
        return make_questions(
            self.prepared.tokenizer,
            data.prompt_format,
            self._prompts_of_rows(ANSWERS),
            held_out=data.held_out,
            train=data.train,
        )

    def _prompt_ids(self, prompt: str) -> torch.Tensor:
        ids_1L: torch.Tensor = self.prepared.tokenizer(prompt, return_tensors="pt")["input_ids"]
        return ids_1L.to(self.accelerator.device)

    def _logits(self, prompt: str) -> torch.Tensor:
        import torch

        self.model.eval()
        with torch.no_grad():
            logits_1LV: torch.Tensor = self.model(input_ids=self._prompt_ids(prompt)).logits
        return logits_1LV[0, -1].clone()

    def finish(self) -> tuple[Measured, Measured, list[Check]]:
        """Measure the tuned model and the base under it, and check the files that were written.

        Ends with the adapter as the files have it on the base.
        """
        folder = self.prepared.output_dir
        after = self.measure()
        checks = [
            *check_adapter(self.peft_model, folder),
            *check_reload(self.peft_model, folder, self._prompt_ids(self.prompts[0])),
        ]
        before = self._measure_base()
        self.peft_model = adapters.load_adapter(self.model, folder).eval()
        return before, after, [*checks, check_moved(before.logits, after.logits)]

    def _measure_base(self) -> Measured:
        unspeed(self.model)
        self.model = adapters.take_off(self.peft_model, self._untouched)
        if self.loaded.measured is None:
            self.loaded.measured = self._fast(self.measure)
        return self.loaded.measured

    def _fast(self, measure: Callable[[], T]) -> T:
        """What ``measure`` finds, on the bare base's fast path where that is wanted."""
        if not self.settings.speedup:
            return measure()
        speedup(self.model)
        try:
            return measure()
        finally:
            unspeed(self.model)

    def release(self) -> None:
        """Leave the base as it was loaded, for the next run; wherever this one stopped."""
        if self.checkpointing:
            self.model.gradient_checkpointing_disable()
            self.model.disable_input_require_grads()
        unspeed(self.model)
        if hasattr(self, "peft_model"):
            adapters.take_off(self.peft_model, self._untouched)

    def make_job(self) -> Job:
        """The training of the adapter that is attached."""
        return Job(
            self.settings,
            self.prepared,
            self.peft_model,
            self.loss_sum(),
            self.accelerator,
            evaluate=self._evaluate if self.prepared.data.held_out else None,
            checkpointing=self.checkpointing,
        )

    def train(self, stop: StopRequest) -> Iterator[Event]:
        """The training loop over the prepared rows."""
        self.job = self.make_job()
        yield from (Note(text) for text in self.take_notes())
        yield from self.job.events(stop)

    def _evaluate(self) -> float:
        held_out = self.prepared.data.held_out
        return score_rows(self.model, held_out, self.accelerator.device).rows().mean

    def detach_from_training(self) -> None:
        """Leave the model as a reload from the files would give it."""
        if self.checkpointing:
            self.model.gradient_checkpointing_disable()
        if self.settings.base_precision is not None:
            speedup(self.peft_model)  # what is measured now is the model as people will use it
        self.peft_model.eval()

    def compare(self, before: Measured, after: Measured) -> Comparison:
        """The two measurements side by side."""
        pairs = zip(self.prompts, before.answers, after.answers, strict=True)
        return Comparison(
            self.settings.model,
            tuple(Answer(*triple) for triple in pairs),
            held_out_figures(before.loss, after.loss),
            self._proof(before, after),
        )

    def _proof(self, before: Measured, after: Measured) -> Proof | None:
        if before.witness is None or after.witness is None:
            return None
        return make_proof(self.questions, before.witness, after.witness)
