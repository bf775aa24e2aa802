"""``report_to: wandb``: what wandb is asked for, and the file that it writes without a network."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lorita.runs import trackers
from lorita.settings.build import build_settings
from tests.runs.test_trackers import STEPS, train, wanted


@dataclass
class Recorded:
    """Stands for the package wandb: keeps what accelerate's tracker does with it."""

    given: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    logged: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    finished: int = 0

    def init(self, **given: Any) -> Recorded:
        self.given = given
        return self

    def update(self, values: dict[str, Any], *, allow_val_change: bool) -> None:
        assert allow_val_change  # a run that is resumed may have other values
        self.settings |= values

    def log(self, values: dict[str, Any], step: int) -> None:
        assert not self.logged or step >= self.logged[-1][0]  # wandb drops what lies behind
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()
    module: Any = ModuleType("wandb")
    module.__spec__ = ModuleSpec("wandb", None)
    module.init, module.config = recorded.init, recorded
    monkeypatch.setitem(sys.modules, "wandb", module)
    for name in ("WANDB_MODE", "WANDB_PROJECT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return recorded


def test_wandb(wandb: Recorded, llama: Path, prompts: Path, tmp_path: Path) -> None:
    """What it is given, in order; the file that it writes is its own affair."""
    seen = train(tmp_path, llama, prompts, report_to="wandb")
    assert wandb.given == {"project": "lorita", "name": "run"} and wandb.finished == 1
    assert wandb.settings["r"] == 8 and wandb.settings["max_steps"] == STEPS
    assert str(tmp_path) not in json.dumps(wandb.settings)
    last: dict[str, Any] = {}
    for _, values in wandb.logged:
        last |= values
    for name, value in wanted(seen, tmp_path / "run").items():
        assert last[name] == pytest.approx(value), name
    assert last["train/memory_gb"] > 0.05 and "nats" in last["proof/learned"]
    assert [step for step, values in wandb.logged if "train/loss" in values] == [1, 2, 3, 4]
    assert {step for step, values in wandb.logged if "proof/divergence" in values} == {STEPS}


@pytest.mark.parametrize(("variables", "mode"), [
    ({}, None),
    ({"HF_HUB_OFFLINE": "1"}, "offline"),
    ({"HF_HUB_OFFLINE": "0"}, None),
    ({"HF_HUB_OFFLINE": "1", "WANDB_MODE": "online"}, None),  # its own variable is stronger
    ({"WANDB_MODE": "offline"}, None),  # wandb reads it itself
])  # fmt: skip
def test_wandb_offline(
    variables: dict[str, str], mode: str | None, wandb: Recorded, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = build_settings(model="m", data="d", report_to="wandb")
    trackers._Trackers(settings, tmp_path / "run").finish()
    assert wandb.given.get("mode") == mode and wandb.finished == 1


@pytest.mark.skipif(find_spec("wandb") is None, reason="needs wandb")
def test_the_file_that_wandb_writes(
    llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, read with wandb's own definition of its records."""
    from wandb.proto import wandb_internal_pb2 as proto

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    seen = train(tmp_path, llama, prompts, report_to="wandb")
    found: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for content in blocks(next(tmp_path.rglob("*.wandb")).read_bytes()):
        record = proto.Record.FromString(content)
        for item in record.history.item:
            found["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        for item in record.config.update:
            settings[item.key] = json.loads(item.value_json)
    for name, value in wanted(seen, tmp_path / "run").items():
        assert found[name] == pytest.approx(value), name
    assert settings["r"] == 8 and found["_step"] == STEPS


def blocks(content: bytes) -> Iterator[bytes]:
    """The records of a log as LevelDB writes it, after wandb's header of 7 bytes.

    A record is divided where a block of 32 KiB ends; its parts have a checksum, a size and a kind.
    """
    place, parts = 7, b""
    while place + 7 <= len(content):
        if 2**15 - place % 2**15 < 7:
            place += 2**15 - place % 2**15
            continue
        _, size, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
