"""Whatever is asked of files and jobs: an answer or what is wrong, and only its folder is used."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorita.jobs.records import RUNNING
from lorita.jobs.work_folder import DATA_FOLDER
from tests.serving.jobs import QUICK, chats
from tests.serving.server import Asking, running
from tests.serving.test_files import END, MULTIPART, part
from tests.serving.test_fuzz import ANY, SCALARS

STATUSES = {200, 400, 404, 405, 409, 413, 415, 429}
ACTIONS = ("", "/cancel", "/pause", "/resume", "/events", "/checkpoints", "/x")
IDS = st.one_of(
    st.sampled_from(["FILE", "JOB", "..", "../jobs.sqlite3", "%2e%2e%2fjobs.sqlite3", "%00"]),
    st.text(max_size=12).map(lambda text: quote(text, safe="")),
)  # fmt: skip
QUERIES = st.one_of(
    st.just(""),
    st.dictionaries(
        st.sampled_from(["limit", "after", "order", "purpose", "metadata", "metadata[a]", "x"]),
        st.one_of(st.integers().map(str), st.text(max_size=6), st.sampled_from(["asc", "null"])),
        max_size=3,
    ).map(lambda q: "?" + "&".join(f"{quote(k)}={quote(v)}" for k, v in q.items())),
)
HYPERPARAMETERS = st.one_of(
    ANY,
    st.dictionaries(
        st.sampled_from(["n_epochs", "batch_size", "learning_rate_multiplier", "x"]),
        st.one_of(st.just("auto"), SCALARS), max_size=3,
    ),
)  # fmt: skip
JOBS = st.fixed_dictionaries(
    {
        "model": st.one_of(st.just("base"), SCALARS),
        "training_file": st.one_of(st.sampled_from(["FILE", "../x"]), SCALARS),
    },
    optional={
        "validation_file": SCALARS, "suffix": SCALARS, "seed": SCALARS, "metadata": ANY,
        "integrations": ANY, "hyperparameters": HYPERPARAMETERS, "odd": ANY,
        "method": st.one_of(
            ANY,
            st.fixed_dictionaries(
                {"type": st.sampled_from(["supervised", "dpo", "x"])},
                optional={"supervised": st.one_of(
                    ANY, st.fixed_dictionaries({"hyperparameters": HYPERPARAMETERS}))},
            ),
        ),
    },
)  # fmt: skip
PARTS = st.lists(
    st.builds(
        part,
        st.sampled_from(["file", "purpose", "x", '"', ""]),
        st.one_of(st.sampled_from([b"fine-tune", b"batch", b"--B", b"\r\n--B--"]),
                  st.binary(max_size=40)),
        st.one_of(st.none(), st.sampled_from(["../x", "/etc/x", "a.jsonl", ""])),
    ),
    max_size=4,
)  # fmt: skip
FORMS = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda parts, end: b"".join(parts) + end, PARTS, st.sampled_from([END, b"", b"--B"])),
)
JSON = "application/json"
REQUESTS = st.one_of(
    st.builds(lambda b: ("POST", "/v1/files", b, MULTIPART), FORMS),
    st.builds(lambda v: ("POST", "/v1/fine_tuning/jobs", json.dumps(v).encode(), JSON), JOBS),
    st.builds(
        lambda method, name, end, query: (method, f"/v1/files/{name}{end}{query}", b"{}", JSON),
        st.sampled_from(["GET", "DELETE", "POST"]), IDS, st.sampled_from(["", "/content"]), QUERIES,
    ),
    st.builds(
        lambda method, name, end, query, body: (
            method, f"/v1/fine_tuning/jobs/{name}{end}{query}", body, JSON),
        st.sampled_from(["GET", "POST"]), IDS, st.sampled_from(ACTIONS), QUERIES,
        st.sampled_from([b"", b"{}", b"[", b'{"x": 1}']),
    ),
    st.builds(
        lambda path, query: ("GET", path + query, b"", JSON),
        st.sampled_from(["/v1/files", "/v1/fine_tuning/jobs"]), QUERIES,
    ),
)  # fmt: skip


def outside(place: Path) -> set[Path]:
    """All that is in the place but the data folder's own content."""
    return {path for path in place.rglob("*") if DATA_FOLDER not in path.parts}


@pytest.mark.parametrize("examples", [150, pytest.param(5000, marks=pytest.mark.slow)])
def test_no_request_breaks_the_server(
    chat_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    # What is asked is looked at; that jobs are done is tested elsewhere.
    monkeypatch.setattr("lorita.jobs.supervisor.Supervisor._begin_next", lambda self: None)
    watched = tmp_path / "watched"
    watched.mkdir()
    before = outside(tmp_path)
    with running(chat_base, watch=watched, jobs=QUICK) as server:
        client = server.client()
        file = client.files.create(file=("x", chats()), purpose="fine-tune").id
        job = client.fine_tuning.jobs.create(model="base", training_file=file).id
        asking = Asking(server)

        def ask(method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
            path = path.replace("FILE", file).replace("JOB", job)
            return asking.ask(method, path, body.replace(b"FILE", file.encode()), kind)

        @settings(max_examples=examples, deadline=None, database=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(REQUESTS)
        def asked(request: tuple[str, str, bytes, str]) -> None:
            status, answer = ask(*request)
            assert status in STATUSES, (request, answer)
            assert b"Traceback" not in answer
            if status != 200:
                assert set(json.loads(answer)["error"]) == {"message", "type", "param", "code"}

        asked()
        assert client.files.list()
        assert server.desk is not None
        assert not server.desk.database.jobs([RUNNING])
        files = watched / DATA_FOLDER / "files"
        assert {path.name for path in files.iterdir()} == {
            one.id for one in server.desk.database.files()
        }
    assert outside(tmp_path) == before
