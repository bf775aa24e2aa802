"""Fine-tuning jobs from upload to served model, through OpenAI's own client."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import lorita
from tests.serving.jobs import (
    EPOCHS,
    QUICK,
    adapter,
    chats,
    create,
    events,
    halves,
    until,
    until_step,
    upload,
)
from tests.serving.server import Running, running
from tests.serving.test_command import started


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("watched")


@pytest.fixture(scope="module")
def serving(chat_base: Path, watched: Path) -> Iterator[Running]:
    with running(chat_base, watch=watched, jobs=QUICK) as it:
        yield it


@pytest.fixture(scope="module")
def client(serving: Running) -> openai.OpenAI:
    return serving.client()


@pytest.fixture(scope="module")
def finished(client: openai.OpenAI) -> Any:
    """A job that nobody has stopped."""
    training, validation = (upload(client, part) for part in halves())
    more = {"suffix": "whole", "metadata": {"team": "red"}}
    job = create(client, training, validation_file=validation, **more)
    assert job.status in ("validating_files", "queued", "running")
    assert job.fine_tuned_model is None
    return until(client, job.id, "succeeded")


def test_from_upload_to_served_model(client: openai.OpenAI, finished: Any) -> None:
    assert finished.fine_tuned_model.startswith("ft:chat-base:lorita:whole:")
    assert finished.finished_at >= finished.created_at
    assert finished.trained_tokens > 1000
    assert finished.hyperparameters.n_epochs == EPOCHS
    assert finished.hyperparameters.learning_rate_multiplier == 1  # what "auto" came to
    assert finished.method.supervised.hyperparameters.batch_size == 4
    assert finished.metadata == {"team": "red"}
    assert finished.error is None
    assert finished.fine_tuned_model in {model.id for model in client.models.list()}
    answer = client.chat.completions.create(
        model=finished.fine_tuned_model, messages=[{"role": "user", "content": "5. x"}]
    )
    assert answer.choices[0].message.content == "yes"


def test_a_job_is_lorita_train(finished: Any, watched: Path, tmp_path: Path) -> None:
    [run] = watched.glob("ft-whole-*")
    lorita.train(config=run / "run.yaml", output_dir=tmp_path / "again", resume=False)
    again = (tmp_path / "again" / "adapter_model.safetensors").read_bytes()
    assert adapter(watched, finished) == again


def test_events(client: openai.OpenAI, finished: Any) -> None:
    found = events(client, finished.id)
    messages = [event.message for event in found]
    for text in (
        f"Created fine-tuning job: {finished.id}",
        f"Validating training file: {finished.training_file}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        f"New fine-tuned model created: {finished.fine_tuned_model}",
        "The job has successfully completed",
    ):
        assert messages.count(text) == 1
    steps = [e.data for e in found if "training loss=" in e.message]
    assert [data["step"] for data in steps] == list(range(1, 3 * EPOCHS + 1))
    assert steps[0]["train_loss"] > steps[-1]["train_loss"]
    assert steps[0]["total_steps"] == 3 * EPOCHS
    measured = [e.data for e in found if "validation loss=" in e.message]
    assert [data["step"] for data in measured] == [12, 24, 36, 48]
    assert all(data["valid_loss"] == data["full_valid_loss"] for data in measured)
    assert len({event.id for event in found}) == len(found)
    first = client.fine_tuning.jobs.list_events(finished.id, limit=2)
    assert first.has_more
    assert [e.id for e in first.data] == [found[-1].id, found[-2].id]
    assert not any("/" in event.message for event in found if event.level == "warn")


def test_result_file(client: openai.OpenAI, finished: Any) -> None:
    [file] = finished.result_files
    about = client.files.retrieve(file)
    assert (about.purpose, about.filename) == ("fine-tune-results", "step_metrics.csv")
    rows = list(csv.DictReader(client.files.content(file).text.splitlines()))
    assert len(rows) == 3 * EPOCHS
    assert list(rows[0]) == [
        "step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy",
    ]  # fmt: skip
    assert float(rows[0]["train_loss"]) > float(rows[-1]["train_loss"])
    valid = {int(row["step"]) for row in rows if row["valid_loss"]}
    assert valid == {12, 24, 36, 48, 60}  # the last one is measured on the finished run


def test_checkpoints_are_listed_and_served(client: openai.OpenAI, finished: Any) -> None:
    found = list(client.fine_tuning.jobs.checkpoints.list(finished.id, limit=2))
    assert [one.step_number for one in found] == [60, 48, 36]
    assert all(one.fine_tuning_job_id == finished.id for one in found)
    assert found[0].metrics.train_loss is not None
    assert found[1].metrics.full_valid_loss is not None
    name = found[1].fine_tuned_model_checkpoint
    assert name == f"{finished.fine_tuned_model}:ckpt-step-48"
    answer = client.chat.completions.create(
        model=name, messages=[{"role": "user", "content": "5. x"}]
    )
    assert answer.choices[0].message.content == "yes"
    for other in (name.replace("48", "49"), name.replace("step-48", "step-../48"), name + "x"):
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=other, messages=[{"role": "user", "content": "x"}])


def test_paused_and_resumed_to_the_same_bytes(
    client: openai.OpenAI, finished: Any, watched: Path
) -> None:
    validation = finished.validation_file
    job = create(client, finished.training_file, validation_file=validation, suffix="paused")
    behind = create(client, finished.training_file)
    until_step(client, job.id, "Step 1/")
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    assert client.fine_tuning.jobs.retrieve(behind.id).status == "queued"  # one at a time
    assert client.fine_tuning.jobs.cancel(behind.id).status == "cancelled"
    with pytest.raises(openai.ConflictError, match="is paused, so it cannot be paused"):
        client.fine_tuning.jobs.pause(job.id)
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    done = until(client, job.id, "succeeded")
    assert adapter(watched, done) == adapter(watched, finished)
    told = events(client, job.id)
    steps = [event.data["step"] for event in told if "training loss=" in event.message]
    assert steps == list(range(1, 3 * EPOCHS + 1))  # none twice, none missing


def test_cancelled_while_it_runs(
    client: openai.OpenAI, serving: Running, finished: Any, watched: Path
) -> None:
    job = create(client, finished.training_file, suffix="cancelled")
    with pytest.raises(openai.ConflictError, match="is needed by the job"):
        client.files.delete(finished.training_file)
    until(client, job.id, "running")
    gone = client.fine_tuning.jobs.cancel(job.id)
    assert gone.status == "cancelled"
    assert gone.finished_at is not None
    assert gone.fine_tuned_model is None
    for change in (client.fine_tuning.jobs.cancel, client.fine_tuning.jobs.resume):
        with pytest.raises(openai.ConflictError, match="is cancelled"):
            change(job.id)
    assert serving.desk is not None
    serving.until(lambda: serving.desk._supervisor._process is None, 30)  # type: ignore[union-attr]
    assert not any("cancelled" in model.id for model in client.models.list())
    assert not list(watched.glob("ft-cancelled-*/lorita.json"))


def test_jobs_are_listed(client: openai.OpenAI, finished: Any) -> None:
    found = list(client.fine_tuning.jobs.list(limit=1))
    assert finished.id in {job.id for job in found}
    assert [j.created_at for j in found] == sorted((j.created_at for j in found), reverse=True)
    red = list(client.fine_tuning.jobs.list(metadata={"team": "red"}))
    assert [job.id for job in red] == [finished.id]
    assert not list(client.fine_tuning.jobs.list(metadata={"team": "blue"}))
    none = client.get("/fine_tuning/jobs?metadata=null&limit=100", cast_to=object)
    assert finished.id not in {job["id"] for job in none["data"]}  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (chats(9), "invalid_n_examples", "has 9 example"),
        (chats(12) + b'{"messages": 3}\n', "invalid_training_file", "line 13: messages must be"),
        (b"hello\n" * 20, "invalid_training_file", "line 1: not valid JSON"),
    ],
)
def test_bad_data_fails_the_job(
    client: openai.OpenAI, content: bytes, code: str, said: str
) -> None:
    job = create(client, upload(client, content))
    failed = until(client, job.id, "failed", seconds=20)
    assert failed.error.code == code
    assert failed.error.param == "training_file"
    assert said in failed.error.message
    last = events(client, job.id)[-1]
    assert (last.level, last.message) == ("error", failed.error.message)


@pytest.mark.slow
def test_data_that_the_model_cannot_learn_fails_the_job(client: openai.OpenAI) -> None:
    """It passes OpenAI's rules, but this model's template has no place for tools."""
    tools = b', "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}\n'
    job = create(client, upload(client, chats().replace(b"}\n", tools)))
    failed = until(client, job.id, "failed", seconds=60)
    assert failed.error.code == "invalid_training_file"
    assert "tools" in failed.error.message
    assert "--job-settings" in failed.error.message
    assert "/" not in failed.error.message.partition(":")[0]  # no folder of this machine


CREATED = {"model": "base", "training_file": "file-x"}


@pytest.mark.parametrize(
    ("change", "said", "param"),
    [
        ({"model": "gpt-4o-mini"}, "cannot be fine-tuned here", "model"),
        ({}, "invalid training_file: file-x", "training_file"),
        ({"training_file": "../../etc/passwd"}, "invalid training_file", "training_file"),
        ({"validation_file": "file-y"}, "invalid validation_file", "validation_file"),
        ({"method": {"type": "dpo", "dpo": {}}}, "no training on preferences (dpo)", "method"),
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}}, "only supervised",
         "method"),
        ({"method": {"type": "supervised", "dpo": {}}}, "no training on preferences", "method"),
        ({"method": {"type": "reinforcement"}}, "by graders (reinforcement)", "method"),
        ({"method": {"type": "magic"}}, "supervised", "method.type"),
        ({"hyperparameters": {"n_epochs": 0}}, 'should be "auto" or a whole number',
         "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": 1.5}}, "whole number", "hyperparameters.n_epochs"),
        ({"hyperparameters": {"batch_size": True}}, "whole", "hyperparameters.batch_size"),
        ({"hyperparameters": {"learning_rate_multiplier": "fast"}}, "a number from 0.0001",
         "hyperparameters.learning_rate_multiplier"),
        ({"hyperparameters": {"beta": 1}}, "Unrecognized", "hyperparameters.beta"),
        ({"hyperparameters": {}, "method": {"type": "supervised", "supervised": {
            "hyperparameters": {}}}}, "given twice", None),
        ({"suffix": "a/b"}, "suffix", "suffix"),
        ({"suffix": "x" * 65}, "up to 64 letters", "suffix"),
        ({"suffix": "my model"}, "up to 64 letters", "suffix"),
        ({"seed": -1}, "seed", "seed"),
        ({"metadata": {"x" * 65: "y"}}, "64", None),
        ({"integrations": [{"type": "wandb"}]}, "sends nothing to other services", None),
        ({"frobnicate": 1}, "Unrecognized request argument supplied: frobnicate", "frobnicate"),
    ],
)  # fmt: skip
def test_jobs_that_are_refused(
    client: openai.OpenAI, finished: Any, change: dict[str, Any], said: str, param: str | None
) -> None:
    asked = {**CREATED, "training_file": finished.training_file, **change}
    if said == "invalid training_file: file-x":
        asked["training_file"] = "file-x"
    before = len(list(client.fine_tuning.jobs.list(limit=100)))
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/fine_tuning/jobs", body=asked, cast_to=object)
    assert said in str(refused.value)
    if param is not None:
        assert refused.value.param == param
    assert len(list(client.fine_tuning.jobs.list(limit=100))) == before


def test_a_tuned_model_is_not_trained_further(client: openai.OpenAI, finished: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="not trained further"):
        create(client, finished.training_file, model=finished.fine_tuned_model)
    with pytest.raises(openai.BadRequestError, match="purpose 'fine-tune-results'"):
        create(client, finished.result_files[0])


def test_what_is_not_there(client: openai.OpenAI, finished: Any) -> None:
    jobs = client.fine_tuning.jobs
    for ask in (jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events,
                jobs.checkpoints.list):  # fmt: skip
        with pytest.raises(openai.NotFoundError) as missing:
            ask("ftjob-nothing")
        assert missing.value.param == "fine_tuning_job_id"
    for ask in (jobs.list_events, jobs.checkpoints.list):
        with pytest.raises(openai.NotFoundError):
            ask(finished.id, after="nothing")
        with pytest.raises(openai.BadRequestError, match="limit"):
            ask(finished.id, limit=0)
    with pytest.raises(openai.NotFoundError):
        jobs.list(after="nothing")
    with pytest.raises(openai.BadRequestError, match="Unrecognized"):
        client.get("/fine_tuning/jobs?order=asc", cast_to=object)


def test_without_a_watched_folder_it_is_said(chat_base: Path) -> None:
    with running(chat_base) as server:
        for ask in (server.client().files.list, server.client().fine_tuning.jobs.list):
            with pytest.raises(openai.NotFoundError, match="--watch FOLDER"):
                ask()


def test_the_queue_has_an_end(
    client: openai.OpenAI, finished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorita.jobs.desk.MOST_UNFINISHED", 0)
    with pytest.raises(openai.RateLimitError, match="not finished yet"):
        create(client, finished.training_file)


def test_a_model_is_deleted(
    client: openai.OpenAI, serving: Running, finished: Any, watched: Path
) -> None:
    """The last of these tests: it deletes the model of the others."""
    (watched / "ft-mine").mkdir()
    [run] = watched.glob("ft-whole-*")
    (run / "mine.txt").write_text("kept")
    assert client.models.delete(finished.fine_tuned_model).deleted
    assert {path.name for path in run.iterdir()} == {".lorita-files", "mine.txt"}
    assert finished.fine_tuned_model not in {model.id for model in client.models.list()}
    assert client.fine_tuning.jobs.retrieve(finished.id).status == "succeeded"
    for name in ("base", "ft-mine", "../watched", "ft:x"):
        with pytest.raises(openai.BadRequestError, match="Only models that a fine-tuning job"):
            client.models.delete(name)


@pytest.mark.slow
def test_the_job_of_a_stopped_server_goes_on(chat_base: Path, tmp_path: Path) -> None:
    """Ctrl-C lets the running job save a checkpoint at the step where it is."""
    words = ["serve", str(chat_base), "--watch", str(tmp_path)]
    with started(words, tmp_path) as url:
        client = openai.OpenAI(base_url=url, api_key="none")
        job = create(client, upload(client))
        until_step(client, job.id, "Step 1/")
    [run] = tmp_path.glob("ft-*")
    [saved] = run.glob("checkpoint-*")
    logged = (run / "log.jsonl").read_text().splitlines()
    assert '"event": "CheckpointSaved"' in logged[-1]
    assert int(saved.name.partition("-")[2]) % 12  # not one that was due
    with running(chat_base, watch=tmp_path, jobs=QUICK) as server:
        assert server.client().fine_tuning.jobs.retrieve(job.id).status == "running"
        until(server.client(), job.id, "succeeded")
