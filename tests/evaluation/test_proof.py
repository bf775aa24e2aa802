"""The three sentences follow from the figures, and appear wherever a run reports them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import lorita
from lorita.errors import UserError
from lorita.evaluation.comparison import read_comparison
from lorita.evaluation.intervals import Change
from lorita.evaluation.proof import Forgot, Learned, Memorised, Proof, proof_from
from lorita.workflows.evaluate import run_lm_eval
from tests import tiny
from tests.command import lorita as command
from tests.runs.test_run import train

FELL, SAME, ROSE = (
    Change(4.0, 3.0, -1.1, -0.9),
    Change(4.0, 3.99, -0.1, 0.1),
    Change(4, 4.5, 0.4, 0.6),
)
STEEP = Change(4.0, 0.5, -3.6, -3.4)
KEPT = Memorised(30, 0, 0, 100, 2, 100, 3)


@pytest.mark.parametrize(
    ("learned", "start", "overfits"),
    [
        (Learned(50, FELL, 30, FELL), "Learned: on 50 held-out rows the loss fell", False),
        (Learned(50, FELL, 30, STEEP), "Learned: on 50", True),
        (Learned(50, SAME, 30, STEEP), "No measurable learning: on 50", True),
        (Learned(50, ROSE, 30, STEEP), "Got worse: on 50 held-out rows the loss rose", True),
        (Learned(50, SAME, 30, SAME), "No measurable learning: on 50", False),
        (Learned(50, FELL, 0, None), "Learned: on 50", False),
        (Learned(0, None, 30, STEEP), "Learning not measured: no rows were held", False),
        (Learned(0, None, 0, None), "Learning not measured: there were no rows", False),
    ],
)
def test_the_sentence_on_learning(learned: Learned, start: str, overfits: bool) -> None:
    sentence = learned.sentence()
    assert sentence.startswith(start)
    assert ("Overfitting:" in sentence) == overfits == learned.overfits
    if learned.held_out:
        assert "4.000 to" in sentence and "perplexity 54.6 to" in sentence


def test_few_rows_are_weak_evidence() -> None:
    assert "So few rows are weak evidence." in Learned(2, FELL, 30, FELL).sentence()


def test_whole_sentences() -> None:
    proof = Proof(Learned(50, FELL, 30, STEEP), Forgot(90, SAME, 0.25), KEPT)
    assert proof.sentences() == [
        "Learned: on 50 held-out rows the loss fell from 4.000 to 3.000 nats per token (perplexity "
        "54.6 to 20.1); change -1.000 (95 % interval -1.100 to -0.900). Overfitting: on 30 "
        "training rows the loss went from 4.000 to 0.500; most of that gain does not carry over "
        "to the held-out rows.",
        "No measurable forgetting: on 90 general passages the loss went from 4.000 to 3.990 nats "
        "per token; change -0.010 (95 % interval -0.100 to +0.100); KL divergence from the base "
        "0.250.",
        "No memorisation found: given their first tokens, the model completed 0 of 30 training "
        "rows verbatim (base 0); 3 % of the 8-token sequences it wrote occur in the training rows "
        "(base 2 %).",
    ]


@pytest.mark.parametrize(
    ("loss", "text"), [(0.2, "1.22"), (2.708, "15.0"), (5.0, "148"), (9.0, "8.10e+03")]
)
def test_perplexity_has_three_significant_figures(loss: float, text: str) -> None:
    change = Change(loss, loss, -0.1, 0.1)
    assert f"(perplexity {text} to {text})" in Learned(50, change, 30, None).sentence()


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (FELL, "No measurable forgetting"),
        (SAME, "No measurable forgetting"),
        (Change(3.0, 3.05, 0.02, 0.08), "Slight forgetting"),
        (Change(3.0, 3.3, 0.2, 0.4), "Some forgetting"),
        (ROSE, "Substantial forgetting"),
    ],
)
def test_the_sentence_on_forgetting(change: Change, verdict: str) -> None:
    sentence = Forgot(90, change, 0.25).sentence()
    assert sentence.startswith(f"{verdict}: on 90 general passages")
    assert "KL divergence from the base 0.250" in sentence


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (KEPT, "No memorisation found: given their first tokens, the model completed 0 of 30"),
        (Memorised(30, 1, 1, 9, 0, 9, 0), "No memorisation found"),
        (Memorised(30, 0, 1, 9, 0, 9, 0), "Memorised: given their first tokens"),
        (Memorised(30, 0, 3, 9, 0, 9, 9), "Memorised heavily: given their first tokens"),
        (Memorised(1, 0, 1, 9, 0, 9, 9), "Memorised heavily: given its first tokens"),
        (Memorised(0, 0, 0, 0, 0, 0, 0), "Memorisation of rows not tested"),
    ],
)
def test_the_sentence_on_memorisation(found: Memorised, verdict: str) -> None:
    assert found.sentence().startswith(verdict)


def test_the_proof_survives_json() -> None:
    for proof in (
        Proof(Learned(50, FELL, 30, STEEP), Forgot(90, ROSE, 0.4), KEPT),
        Proof(Learned(0, None, 0, None), Forgot(90, SAME, 0.0), None),
    ):
        assert proof_from(json.loads(json.dumps(asdict(proof)))) == proof
        assert len(proof.sentences()) == 3


@pytest.fixture(scope="module")
def run(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has memorised its four rows."""
    folder = tmp_path_factory.mktemp("parrot")
    data = tiny.write_csv(folder / "rows.csv", tiny.make_texts(24))
    options: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lorita.evaluation.proof_size.SHARE", 1e9)  # as evaluate measures: on all
        train(
            folder / "run",
            llama,
            data,
            max_train_samples=4,
            max_steps=80,
            learning_rate=2e-2,
            **options,
        )
    return folder / "run"


def test_a_parrot_is_called_one(run: Path) -> None:
    proof = read_comparison(run).proof
    assert proof is not None and proof.memorised is not None
    # Of the other twenty rows, eight are near duplicates of the four.
    assert proof.learned.rows == 12 and proof.learned.training_rows == 4
    assert proof.memorised.extracted == proof.memorised.rows > 0
    assert proof.memorised.extracted_base == 0
    assert proof.memorised.copied > proof.memorised.copied_base == 0
    assert "Memorised heavily" in str(proof)
    saved = json.loads((run / "compare.json").read_text())["proof"]["sentences"]
    assert saved == proof.sentences()
    for name in ("compare.md", "README.md"):
        text = (run / name).read_text()
        assert all(sentence in text for sentence in saved)


def test_evaluate_finds_the_same_from_the_files(run: Path, llama: Path, tmp_path: Path) -> None:
    found = lorita.evaluate(run, dtype="float32")
    saved = read_comparison(run).proof
    assert saved is not None and found.notes == []
    assert found.proof.learned.held_out is not None and saved.learned.held_out is not None
    assert found.proof.learned.held_out.tuned == pytest.approx(
        saved.learned.held_out.tuned, rel=1e-5
    )
    assert found.proof.forgot.divergence == pytest.approx(saved.forgot.divergence, rel=1e-4)
    assert found.proof.memorised == saved.memorised
    # Other rows: here the ones it was trained on.
    other = tiny.write_csv(tmp_path / "other.csv", tiny.make_texts(4))
    done = command("evaluate", run, "--data", other, "--dtype", "float32")
    assert done.code == 0, done.err
    assert "on 4 held-out rows the loss fell" in done.out
    assert len(done.out.splitlines()) == 3
    few = lorita.evaluate(run, max_samples=5, dtype="float32")
    assert few.proof.learned.rows == 5


def test_evaluate_without_the_training_rows(run: Path, tmp_path: Path) -> None:
    settings = (run / "run.yaml").read_text()
    other = tiny.write_csv(tmp_path / "other.csv", [text + " Now." for text in tiny.make_texts(24)])
    import shutil

    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    (moved / "run.yaml").write_text(settings.replace(str(run.parent / "rows.csv"), str(other)))
    with pytest.raises(UserError, match="no longer the rows"):
        lorita.evaluate(moved)
    found = lorita.evaluate(moved, data=[str(other)], dtype="float32")
    assert "no longer the rows" in found.notes[0]
    assert "Memorisation not tested" in str(found.proof)


def test_a_comparison_of_an_earlier_version(run: Path, tmp_path: Path) -> None:
    """Sentences that were saved with other words are replaced by today's."""
    saved = json.loads((run / "compare.json").read_text())
    saved["proof"]["sentences"] = ["Learned nothing that is sure: ..."]
    (tmp_path / "compare.json").write_text(json.dumps(saved))
    assert read_comparison(tmp_path) == read_comparison(run)


def test_without_proof_the_loss_is_the_same(llama: Path, prompts: Path, tmp_path: Path) -> None:
    train(tmp_path / "a", llama, prompts, max_steps=2)
    train(tmp_path / "b", llama, prompts, max_steps=2, proof=False)
    with_proof, without = read_comparison(tmp_path / "a"), read_comparison(tmp_path / "b")
    assert without.proof is None and with_proof.proof is not None
    assert without.held_out == with_proof.held_out


def test_lm_eval(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match="lm-eval is not installed"):
        run_lm_eval(run, ["arc_easy"])
    asked: dict[str, Any] = {}

    def simple_evaluate(model: Any, tasks: list[str]) -> dict[str, Any]:
        asked.update(model=model, tasks=tasks)
        return {"results": {"arc_easy": {"acc,none": 0.5, "alias": "arc_easy"}}}

    fake, models, hf = ModuleType("lm_eval"), ModuleType("models"), ModuleType("huggingface")
    fake.simple_evaluate = simple_evaluate  # type: ignore[attr-defined]
    hf.HFLM = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lm_eval", fake)
    monkeypatch.setitem(sys.modules, "lm_eval.models", models)
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", hf)
    assert run_lm_eval(run, ["arc_easy"])["arc_easy"]["acc,none"] == 0.5
    assert asked["tasks"] == ["arc_easy"]
    assert hasattr(asked["model"].pretrained, "peft_config")

    def offline(model: Any, tasks: list[str]) -> dict[str, Any]:
        raise ConnectionError("Couldn't reach 'allenai/ai2_arc' on the Hub")

    fake.simple_evaluate = offline  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="--lm-eval: Couldn't reach"):
        run_lm_eval(run, ["arc_easy"])
    done = command("evaluate", run, "--max-samples", "0")
    assert done.code == 2 and "max_samples = 0" in done.err
    nothing = command("evaluate", tmp_path)
    assert nothing.code == 2 and "this folder holds no adapter" in nothing.err
