"""Real downloads from a local hub, and a clear message for each failure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorita.models.adapter import save_adapter
from tests import tiny
from tests.command import lorita
from tests.export import models
from tests.hub_server import COMMIT, HubServer, hub_server


@pytest.fixture(scope="module")
def hub(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    data = tmp_path_factory.mktemp("hub-data")
    tiny.write_csv(data / "prompts.csv", tiny.make_texts(12))
    base = models.make_model("llama")
    base.name_or_path = "someone/base"
    adapter = tmp_path_factory.mktemp("hub-adapter")
    save_adapter(models.with_adapter(base), adapter)
    with hub_server() as server:
        server.add("someone/tiny-llama", llama)
        server.add("someone/base", models.save_base(data.parent / "base", "llama"))
        server.add("someone/adapter", adapter)
        server.add("someone/prompts", data, dataset=True)
        server.add("someone/no-model", data)
        server.gated = {"someone/gated", "datasets/someone/gated"}
        yield server


def environment(hub: HubServer, cache: Path) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }


def test_model_and_data_by_name(hub: HubServer, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ("train", "--model", "someone/tiny-llama", "--data", "someone/prompts")
    options = ("--text-field", "prompt", "--max-steps", "1", "--output-dir", run, "--use-cpu")
    there = environment(hub, tmp_path / "cache")

    first = lorita(*arguments, *options, **there)

    assert first.code == 0, first.err
    record = json.loads((run / "lorita.json").read_text())
    assert record["base"]["reference"] == "someone/tiny-llama"
    assert record["base"]["revision"] == COMMIT
    assert "base_model: someone/tiny-llama" in (run / "README.md").read_text()

    # Once downloaded, everything works without a network.
    asked = len(hub.requests)
    again = lorita(
        "generate", run, "I act", "--max-new-tokens", "3", **there | {"HF_HUB_OFFLINE": "1"}
    )
    assert again.code == 0, again.err
    assert len(hub.requests) == asked


def test_an_adapter_by_name(hub: HubServer, tmp_path: Path) -> None:
    """Its base is found by the name in its configuration; offline, both come from the cache."""
    there = environment(hub, tmp_path / "cache")
    options = ("--max-new-tokens", "3", "--dtype", "float32")
    first = lorita("generate", "someone/adapter", "I act", *options, **there)
    assert first.code == 0, first.err
    local = lorita("generate", hub.repositories["someone/adapter"], "I act", *options, **there)
    assert local.out == first.out
    offline = there | {"HF_HUB_OFFLINE": "1"}
    asked = len(hub.requests)
    by = ("--engine", "llama.cpp")
    again = lorita("generate", "someone/adapter", "I act", *options, *by, **offline)
    assert (again.code, again.out) == (0, first.out), again.err
    assert len(hub.requests) == asked


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("someone/prompts-only", "no folder or hub repository with this name"),
        ("someone/no-model", "holds no adapter"),
    ],
)
def test_adapter_refused(hub: HubServer, tmp_path: Path, name: str, said: str) -> None:
    there = environment(hub, tmp_path / "cache")
    outcome = lorita("generate", name, "I act", **there)
    assert (outcome.code, said in outcome.err) == (2, True), outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("model", "extra", "said"),
    [
        ("someone/nothing", (), "no folder or hub repository with this name"),
        pytest.param("someone/gated", (), "access is gated", marks=pytest.mark.slow),
        pytest.param("someone/no-model", (), "no config.json", marks=pytest.mark.slow),
        ("someone/tiny-llama", ("--revision", "v9"), "no revision 'v9'"),
    ],
)
def test_model_refused(
    hub: HubServer, tmp_path: Path, model: str, extra: tuple[str, ...], said: str
) -> None:
    outcome = lorita("plan", model, *extra, **environment(hub, tmp_path))
    assert (outcome.code, said in outcome.err) == (2, True), outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("data", "extra", "said"),
    [
        ("someone/nothing", (), "no file or hub data set with this name"),
        pytest.param("someone/gated", (), "gated", marks=pytest.mark.slow),
        pytest.param("someone/prompts", ("--data-split", "dev"), "dev", marks=pytest.mark.slow),
    ],
)
def test_data_refused(
    hub: HubServer, llama: Path, tmp_path: Path, data: str, extra: tuple[str, ...], said: str
) -> None:
    arguments = ("train", "--model", llama, "--data", data, "--output-dir", tmp_path / "run")
    outcome = lorita(*arguments, *extra, **environment(hub, tmp_path / "cache"))
    assert (outcome.code, said in outcome.err) == (2, True), outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


def test_unreachable_and_offline(tmp_path: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    unreachable = lorita("plan", "someone/thing", **nowhere, HF_HUB_OFFLINE="0")
    assert unreachable.code == 2
    assert "cannot be reached" in unreachable.err
    offline = lorita("plan", "someone/thing", **nowhere, HF_HUB_OFFLINE="1")
    assert offline.code == 2
    assert "HF_HUB_OFFLINE is set" in offline.err


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_with_another_hash_is_refused(
    hub: HubServer,
    llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Of the right size, which is all that the hub's client compares."""
    from huggingface_hub import snapshot_download

    from lorita.errors import ModelError
    from lorita.storage.downloads import require_intact

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    folder = Path(
        snapshot_download("someone/tiny-llama", endpoint=hub.endpoint, cache_dir=tmp_path / "cache")
    )
    blob = (folder / name).resolve()
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    for _ in range(2):  # nothing is remembered of a file that was wrong
        with pytest.raises(ModelError, match=f"{name} is not what the hub has") as caught:
            require_intact("someone/tiny-llama", folder, ModelError)
        assert str(blob) in str(caught.value)
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    require_intact("someone/tiny-llama", folder, ModelError)
    # It is read once.
    monkeypatch.setattr("lorita.storage.downloads._hash", lambda blob: "never")
    require_intact("someone/tiny-llama", folder, ModelError)


def test_a_base_and_an_adapter_that_were_changed_in_the_cache(
    hub: HubServer, tmp_path: Path
) -> None:
    there = environment(hub, tmp_path / "cache")
    asked = ("generate", "someone/adapter", "I act as", "--max-new-tokens", "2")
    first = lorita(*asked, **there)
    assert first.code == 0, first.err
    snapshots = tmp_path / "cache/hub"
    for repository in ("models--someone--base", "models--someone--adapter"):
        (weights,) = (snapshots / repository).glob("snapshots/*/*.safetensors")
        blob = weights.resolve()
        content = blob.read_bytes()
        blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        done = lorita(*asked, **there)
        assert done.code == 2, done.err
        assert "is not what the hub has" in done.err
        blob.write_bytes(content)
