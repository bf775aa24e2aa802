"""docs/from-openai.md as it stands, against ``lorita serve`` as it is typed there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from lorita.cli import run
from lorita.jobs.options import read_job_settings, run_options
from lorita.jobs.records import Job, Request
from lorita.serving.job_schema import FileQuery, Hyperparameters, JobQuery, JobRequest
from lorita.settings.build import build_settings
from tests.command import environment, refused, write
from tests.docs.pages import ROOT
from tests.serving.jobs import QUICK
from tests.serving.server import running
from tests.serving.test_command import started

PAGE = (ROOT / "docs" / "from-openai.md").read_text(encoding="utf-8")


def test_the_demo_of_the_page(chat_base: Path, tmp_path: Path) -> None:
    command = re.search(r"^lorita (serve .*)$", PAGE, re.M)
    snippet = re.search(r"^```py\n(.*?)^```$", PAGE, re.M | re.S)
    assert command and snippet
    (tmp_path / "runs").mkdir()
    words = shlex.split(command[1].replace("smollm2-135m", str(chat_base)))
    with started(words, tmp_path) as url:
        text = snippet[1].replace("http://127.0.0.1:8000/v1", url)
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=tmp_path, env=environment(), timeout=240,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "info The job has successfully completed" in done.stdout
        assert "step,train_loss,train_accuracy,valid_loss" in done.stdout
        [job] = openai.OpenAI(base_url=url, api_key="none").fine_tuning.jobs.list()
        assert job.fine_tuned_model is not None
        assert re.fullmatch(r"ft:chat-base:lorita:tickets:\w{8}", job.fine_tuned_model)
        [folder] = (tmp_path / "runs").glob("ft-tickets-*")
        assert (folder / "compare.md").is_file()  # its proof


def test_the_page_says_what_may_be_asked() -> None:
    shown = set(re.findall(r"`(\w+)`", PAGE))
    for kind in (JobRequest, Hyperparameters, JobQuery, FileQuery):
        assert set(kind.model_fields) <= shown, kind


def test_one_server_sees_to_the_jobs_of_a_folder(
    chat_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    served: list[Any] = []
    monkeypatch.setattr(
        "lorita.serving.server.serve", lambda *given, desk, **more: served.append(desk)
    )
    monkeypatch.setattr("lorita.cli.serve._log", lambda: None)  # it would outlive the test
    asked = ["serve", str(chat_base), "--watch", str(tmp_path), "--port", "0"]
    with running(chat_base, watch=tmp_path, jobs=QUICK):
        said = refused(capsys, *asked)
        assert "is being written by process" in said
        assert "--no-jobs" in said
        assert run([*asked, "--no-jobs"]) == 0
    assert served == [None]


def test_settings_of_jobs(tmp_path: Path) -> None:
    shown = re.search(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
    assert shown
    file = write(tmp_path / "jobs.yaml", shown[1] + "learning-rate: 1e-3\n")
    found = read_job_settings(file)
    assert found == {"r": 16, "chat_template": "chatml", "learning_rate": 1e-3}
    asked = Request("base", "f", learning_rate_multiplier=2, base={"model": "m", **found})
    job = Job("j", 0, "queued", asked, "run", "ft")
    options = run_options(job, tmp_path / "run", file, None)
    assert options["learning_rate"] == 2e-3
    assert (options["r"], options["output_dir"]) == (16, str(tmp_path / "run"))
    assert build_settings(**options).chat_template == "chatml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: x\ndata: y\n", "model, data: not for the settings of jobs"),
        ("base_model: x\n", "model: not for the settings of jobs"),
        ("map-row: x.py:f\n", "map_row: not for"),
        ("trust_remote_code: true\n", "trust_remote_code: not for"),
        ("rang: 3\n", "unknown option 'rang'"),
        ("r: -3\n", "r = -3"),
        ("- 3\n", "settings"),
    ],
)
def test_settings_that_jobs_cannot_have(
    chat_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file = write(tmp_path / "jobs.yaml", text)
    asked = ["serve", chat_base, "--job-settings", file]
    assert "there are no jobs" in refused(capsys, *asked)
    assert said in refused(capsys, *asked, "--watch", tmp_path)
