"""The merged model for Ollama: in the base's own formats if that keeps what was learned."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from lorita.cli import run as lorita
from lorita.export.gguf import check
from lorita.export.gguf.number_formats import closest_format
from lorita.models.adapter import save_adapter
from tests.command import refused
from tests.export import models
from tests.export.gguf.test_gguf import write_model

KINDS = gguf.GGMLQuantizationType
ADAPTED = "blk.0.attn_q.weight"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter whose base is a GGUF file of four bits."""
    folder = tmp_path_factory.mktemp("quantised")
    idle = models.with_adapter(models.make_model("llama"), zero=True)
    base = write_model(idle, folder / "base.gguf", "q4_0")
    tuned = models.with_adapter(models.make_model("llama"), target_modules=["q_proj"])
    for config in tuned.peft_config.values():
        config.base_model_name_or_path = str(base)
    (folder / "parrot").mkdir()
    save_adapter(tuned, folder / "parrot")
    return folder / "parrot"


class Full:
    free = 0


def formats(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


def export(run: Path, out: Path, *more: str) -> int:
    return lorita(["export", "ollama", str(run), str(out), *more])


def test_the_formats_of_the_base(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "KEPT", -1e9)
    assert export(run, tmp_path / "out") == 0
    base = run.parent / "base.gguf"
    assert formats(tmp_path / "out/model.gguf") == formats(base)
    own, new = gguf.GGUFReader(base), gguf.GGUFReader(tmp_path / "out/model.gguf")
    different = [
        a.name for a, b in zip(own.tensors, new.tensors, strict=True) if (a.data != b.data).any()
    ]
    assert {name.partition(".")[2].partition(".")[2] for name in different} == {"attn_q.weight"}
    assert new.get_field("general.file_type").contents() == 2
    said = capsys.readouterr().out
    assert "llama.cpp:" in said
    assert "as in the base's file" not in said


def test_eight_bits_where_the_bases_format_loses_what_was_learned(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "KEPT", 1e9)
    monkeypatch.setattr(check, "LEARNED", 1e-9)
    assert export(run, tmp_path / "out") == 0
    found = formats(tmp_path / "out/model.gguf")
    assert found[ADAPTED] == "Q8_0"
    assert found["blk.0.ffn_up.weight"] == "Q4_0"
    said = capsys.readouterr().out
    assert "rounded as in the base's file, the model would keep" in said
    assert "are Q8_0, not Q4_0" in said
    assert "Warning: in this format" in said  # nothing is good enough for this KEPT


def test_without_llama_cpp_to_check(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lorita.inference.llamacpp.is_installed", lambda: False)
    assert export(run, tmp_path / "out", "--merged") == 0
    assert formats(tmp_path / "out/model.gguf")[ADAPTED] == "Q8_0"
    assert "Not checked: llama.cpp is not installed" in capsys.readouterr().out


def test_a_format_that_is_asked_for(run: Path, tmp_path: Path) -> None:
    assert export(run, tmp_path / "out", "--quantize", "q5_0") == 0
    assert formats(tmp_path / "out/model.gguf")[ADAPTED] == "Q5_0"


def test_what_llama_cpp_cannot_load_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(tuned: object, folder: Path, path: Path, **how: object) -> list[str]:
        path.write_bytes(b"GGUF and nothing else")
        return []

    monkeypatch.setattr("lorita.export.ollama.gguf_file.write_run", broken)
    assert export(run, tmp_path / "out") == 1
    assert "llama.cpp cannot load this file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_found_before_anything_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lorita.storage.files.shutil.disk_usage", lambda path: Full)
    assert "but the disk has 0.00 GB left" in refused(
        capsys, "export", "ollama", run, tmp_path / "out"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("own", "written"),
    [("Q4_K", "Q5_0"), ("Q6_K", "Q8_0"), ("Q2_K", "Q4_0"), ("IQ4_XS", "Q5_0"), ("Q8_0", "Q8_0"),
     ("F32", "F32"), ("BF16", "BF16")],
)  # fmt: skip
def test_formats_that_only_llama_cpp_writes(own: str, written: str) -> None:
    assert closest_format(KINDS[own]) == KINDS[written]
