"""Uploads to a local hub: what arrives, and what must never leave the machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import tiny
from tests.command import environment, lorita
from tests.forks import server_for
from tests.hub_server import TOKEN, HubServer, hub_server


@pytest.fixture(scope="module")
def hub(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with hub_server() as server:
        server.add("someone/tiny-llama", llama)
        server.cards["someone/tiny-llama"] = {"license": "apache-2.0"}
        server.uploads = tmp_path_factory.mktemp("uploads")
        yield server


@pytest.fixture(scope="module")
def there(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path_factory.mktemp("cache")),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
    }


@pytest.fixture(scope="module", autouse=True)
def _forks(there: dict[str, str]) -> Iterator[None]:
    with server_for(environment(**there)):
        yield


@pytest.fixture(scope="module")
def run(hub: HubServer, there: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was pushed when it ended."""
    folder = tmp_path_factory.mktemp("secret-place")
    data = tiny.write_csv(folder / "prompts.csv", tiny.make_texts(12))
    done = lorita(
        "train", "--model", "someone/tiny-llama", "--data", data, "--text-field", "prompt",
        "--max-steps", "1", "--max-new-tokens", "4", "--use-cpu", "--output-dir", folder / "parrot",
        "--push-to-hub", "--hub-model-id", "someone/parrot", **there,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert f"Pushed: {hub.endpoint}/someone/parrot" in " ".join(done.err.split())
    return folder / "parrot"


def test_what_arrives(hub: HubServer, run: Path) -> None:
    assert hub.uploads is not None
    page = hub.uploads / "someone/parrot"
    names = {path.name for path in page.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "lorita.json"} <= names
    assert not names & {"run.yaml", "log.jsonl", "compare.json"}
    weights = "adapter_model.safetensors"
    assert (page / weights).read_bytes() == (run / weights).read_bytes()
    assert json.loads((page / "adapter_config.json").read_text())["base_model_name_or_path"] == (
        "someone/tiny-llama"
    )
    card = (page / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["base_model"] == "someone/tiny-llama"
    assert metadata["base_model_relation"] == "adapter"
    assert metadata["license"] == "apache-2.0"
    assert metadata["library_name"] == "peft"
    assert {"lora", "lorita"} <= set(metadata["tags"])
    assert 'lorita.load("someone/parrot")' in card
    assert "trainable params" in card and "nats per token" in card and "## Limits" in card
    record = json.loads((page / "lorita.json").read_text())
    assert record["data"]["origin"] == ["prompts.csv"]
    for path in page.iterdir():
        assert b"secret-place" not in path.read_bytes(), path.name


def test_push_afterwards_to_the_users_own_name(
    hub: HubServer, there: dict[str, str], run: Path
) -> None:
    again = lorita("push", run, "second", "--license", "mit", **there)
    assert again.code == 0, again.err
    assert again.out.strip() == f"Pushed: {hub.endpoint}/someone/second"
    assert hub.uploads is not None
    assert "license: mit" in (hub.uploads / "someone/second/README.md").read_text()


def test_a_base_from_a_folder(
    hub: HubServer, there: dict[str, str], run: Path, llama: Path, tmp_path: Path
) -> None:
    """Its hub id and license are unknown: there are notes about that, and both can be given."""
    local = tmp_path / "local"
    shutil.copytree(run, local)
    record = json.loads((local / "lorita.json").read_text())
    record["base"] |= {"name": str(llama), "reference": str(llama), "revision": None}
    (local / "lorita.json").write_text(json.dumps(record))
    card = (local / "README.md").read_text().replace("someone/tiny-llama", str(llama))
    (local / "README.md").write_text(card)

    done = lorita("push", local, "someone/local", **there)
    assert done.code == 0, done.err
    assert "--base-model" in done.out and "--license" in done.out
    done = lorita("push", local, "someone/local", "--base-model", "someone/tiny-llama", **there)
    assert done.out.splitlines() == [f"Pushed: {hub.endpoint}/someone/local"]
    assert hub.uploads is not None
    text = (hub.uploads / "someone/local/README.md").read_text()
    assert "license: apache-2.0" in text
    assert str(llama) not in text


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("someone/x", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ("someone/x", {"HF_TOKEN": ""}, "no token found"),
        ("some one/x", {}, "not a valid hub repository name"),
        ("someone/x", {"HF_TOKEN": "hf_wrong"}, "rejected the upload (401)"),
        ("another/x", {}, "rejected the upload (403)"),
        ("someone/x", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"),
    ],
)
def test_refused(
    hub: HubServer,
    there: dict[str, str],
    run: Path,
    name: str,
    changed: dict[str, str],
    said: str,
) -> None:
    asked = len(hub.requests)
    done = lorita("push", run, name, **there | changed)
    assert (done.code, said in done.err) == (2, True), done.err
    assert "Traceback" not in done.err
    if "OFFLINE" in said:
        assert len(hub.requests) == asked


def test_never_by_default_and_refused_at_the_door(
    hub: HubServer, there: dict[str, str], llama: Path, tmp_path: Path
) -> None:
    data = tiny.write_csv(tmp_path / "prompts.csv", tiny.make_texts(12))
    arguments = ("train", "--model", llama, "--data", data, "--text-field", "prompt", "--use-cpu",
                 "--max-steps", "1", "--max-new-tokens", "2",
                 "--output-dir", tmp_path / "run")  # fmt: skip
    asked = len(hub.requests)
    offline = lorita(*arguments, "--push-to-hub", **there | {"HF_HUB_OFFLINE": "1"})
    assert (offline.code, "HF_HUB_OFFLINE is set" in offline.err) == (2, True)
    assert not (tmp_path / "run").exists()
    assert lorita(*arguments, **there).code == 0
    assert len(hub.requests) == asked
    late = lorita(
        *arguments, "--overwrite", "--push-to-hub", "--hub-model-id", "another/x", **there
    )
    assert late.code == 2
    assert f"lorita push {tmp_path / 'run'} another/x" in late.err
    assert (tmp_path / "run/lorita.json").is_file()
