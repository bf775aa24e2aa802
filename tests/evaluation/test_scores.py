"""Scores and divergences equal the plain computation, with and without the fast path."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from lorita.data.examples import IGNORE, Example
from lorita.engine.speedup import speedup
from lorita.evaluation import scores as module
from lorita.evaluation.general_passages import general_examples, general_passages
from lorita.evaluation.intervals import change_of
from lorita.evaluation.memorised import copied, extracted
from lorita.evaluation.row_losses import HeldOutLoss
from lorita.evaluation.scores import divergences, read_states, score_rows
from tests import tiny

CPU = torch.device("cpu")
ROWS = [
    Example(ids, [IGNORE] * masked + ids[masked:], number)
    for number, (ids, masked) in enumerate(
        [([5, 6, 7, 8, 9], 0), ([30, 40, 50], 1), ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 4)]
    )
]


def adapted(family: str, **options: object) -> PeftModel:
    config = LoraConfig(
        r=2,
        target_modules=tiny.QKV[family],
        task_type="CAUSAL_LM",
        **options,  # type: ignore[arg-type]
    )
    model = get_peft_model(tiny.make_model(family), config).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5)
    return model


def plain_logits(model: torch.nn.Module, row: Example) -> torch.Tensor:
    """[N, V] at the row's targets."""
    with torch.no_grad():
        logits_LV = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1].float()
    return logits_LV[torch.tensor(row.labels[1:]) != IGNORE]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("family", ["llama", "bloom", "gpt2"])
def test_scores_are_the_plain_losses(
    family: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapted(family)
    expected, hits = [], []
    for row in ROWS:
        logits_NV = plain_logits(model, row)
        targets = torch.tensor([label for label in row.labels[1:] if label != IGNORE])
        expected.append(torch.nn.functional.cross_entropy(logits_NV, targets, reduction="sum"))
        hits.append((logits_NV.argmax(-1) == targets).tolist())
    if fast:
        speedup(model)
    monkeypatch.setattr(module, "TOKENS", 9)  # several batches
    monkeypatch.setattr(module, "LOGITS", 1000)  # several chunks
    found = score_rows(model, ROWS, CPU)
    assert found.row_hits() == hits
    assert found.rows().counts == tuple(row.num_targets for row in ROWS)
    torch.testing.assert_close(torch.tensor(found.rows().sums), torch.stack(expected))


@pytest.mark.parametrize("head", [None, "adapted", "whole"])
def test_divergence_is_the_formula_though_the_adapter_is_gone(head: str | None) -> None:
    options: dict[str, object] = {"bias": "all"}
    if head == "whole":
        options["modules_to_save"] = ["lm_head"]
    model = adapted("llama", **options)
    if head == "adapted":
        config = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM")
        model = get_peft_model(tiny.make_model("llama"), config).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    base = tiny.make_model("llama")
    expected = []
    for row in ROWS:
        p = plain_logits(model, row).log_softmax(-1)
        q = plain_logits(base, row).log_softmax(-1)
        expected.append((p.exp() * (p - q)).sum(-1))
    tuned_states = read_states(model, ROWS, CPU)
    for parameter in model.parameters():  # later changes in place must not matter
        if parameter.requires_grad:
            parameter.data.zero_()
    found = divergences(tuned_states, read_states(base, ROWS, CPU))
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)
    assert float(found.min()) > 0


def test_one_forward_pass_says_what_greedy_decoding_does() -> None:
    model, given = tiny.make_model("llama"), [5, 6, 7, 8, 9, 10, 11]
    full = model.generate(
        torch.tensor([given]), max_new_tokens=6, do_sample=False, eos_token_id=-1
    )[0].tolist()
    hits = score_rows(model, [Example(full, list(full), 0)], CPU).row_hits()[0]
    assert all(hits[len(given) - 1 :])


def test_extraction_and_copies() -> None:
    ids = list(range(60))
    text, answer = Example(ids, ids, 0), Example(ids, [IGNORE] * 30 + ids[30:], 1)
    short = Example(ids[:5], ids[:5], 2)
    rows = [text, answer, short]
    counts = tuple(row.num_targets for row in rows)

    def found(wrong: int) -> tuple[int, int]:
        hits = torch.ones(sum(counts), dtype=torch.bool)
        hits[wrong] = False
        return extracted(rows, module.Scores(torch.zeros(sum(counts)), hits, counts))

    assert found(wrong=2) == (2, 2)  # among the given tokens; the short row is not tested
    assert found(wrong=20) == (1, 2)
    assert found(wrong=55) == (2, 2)  # beyond the tested tokens
    assert found(wrong=59) == (1, 2)  # the answer's first token
    assert copied([list(range(10, 20)), [99] * 20], [text]) == (3, 4)
    assert copied([], [text]) == (0, 0)


def test_the_interval_is_as_wide_as_the_rows_differ() -> None:
    base = HeldOutLoss((10.0,) * 40, (5,) * 40)
    same = change_of(base, HeldOutLoss((9.0,) * 40, (5,) * 40))
    assert (same.low, same.high, same.sign) == pytest.approx((-0.2, -0.2, -1))
    torch.manual_seed(0)
    noise = torch.randn(40) * 5
    mixed = change_of(base, HeldOutLoss(tuple((10.0 + noise).tolist()), (5,) * 40))
    # The textbook interval of a mean: 1.96 standard errors to each side.
    assert mixed.high - mixed.low == pytest.approx(
        2 * 1.96 * float(noise.std()) / 40**0.5 / 5, rel=0.1
    )
    assert mixed.low < mixed.value < mixed.high
    assert mixed == change_of(base, HeldOutLoss(tuple((10.0 + noise).tolist()), (5,) * 40))


def test_general_passages() -> None:
    passages = general_passages()
    assert len(passages) >= 80
    assert len({passage["text"] for passage in passages}) == len(passages)
    assert {passage["language"] for passage in passages} == {"en", "es", "code"}
    assert len({passage["subject"] for passage in passages}) >= 20
    rows = general_examples(tiny.make_tokenizer())
    assert len(rows) == len(passages)
    assert max(len(row.input_ids) for row in rows) == 96
