"""Models that are split into several GGUF files are read together, or refused in one message."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch

from lorita.cli import run as lorita
from lorita.export.gguf.file import copy_metadata
from lorita.models.base import find_base
from lorita.models.base_weights import load_model
from lorita.models.gguf_files import open_whole
from tests import tiny
from tests.command import refused
from tests.models.gguf_bases import write_gguf

PARTS = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("whole"), "llama", quantize="q8_0")


@pytest.fixture
def split(whole: Path, tmp_path: Path) -> list[Path]:
    """The parts as llama.cpp writes them: the metadata are in the first, here without tensors."""
    reader = gguf.GGUFReader(whole)
    groups = [[], reader.tensors[:5], reader.tensors[5:]]
    paths = []
    for number, tensors in enumerate(groups):
        writer = gguf.GGUFWriter(None, "llama")
        if number == 0:
            copy_metadata(open_whole(whole).header, writer, leave_out=())
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", PARTS)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        paths.append(tmp_path / f"m-{number + 1:05d}-of-{PARTS:05d}.gguf")
        writer.write_header_to_file(paths[-1])
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths


@pytest.mark.parametrize("number", range(PARTS))
def test_all_parts_are_read_whichever_is_named(number: int, split: list[Path], whole: Path) -> None:
    base = find_base(str(split[number]))
    assert base.gguf_path == split[0]
    found = load_model(base, torch.float32).state_dict()
    expected = load_model(find_base(str(whole)), torch.float32).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_run_on_it(split: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tiny.write_csv(tmp_path / "data.csv", tiny.make_texts(12))
    run = tmp_path / "run"
    options = ["--text-field", "prompt", "--max-steps", "1", "--no-proof", "--output-dir", run]
    assert lorita([str(a) for a in ("train", "--model", split[1], "--data", data, *options)]) == 0
    assert lorita(["export", "gguf", str(run), str(tmp_path / "adapter.gguf")]) == 0
    capsys.readouterr()
    said = refused(capsys, "export", "gguf", run, tmp_path / "merged.gguf", "--merged")
    assert "llama-gguf-split --merge" in said


def test_missing_and_damaged_parts(
    split: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = split[2].read_bytes()
    split[2].write_bytes(cut[: len(cut) // 2])
    assert "m-00003-of-00003.gguf: the GGUF file is" in refused(capsys, "plan", split[0])
    split[2].unlink()
    said = refused(capsys, "plan", split[0])
    assert "missing beside it: m-00003-of-00003.gguf" in said
    split[0].rename(renamed := tmp_path / "model.gguf")
    assert "one of 3 parts" in refused(capsys, "plan", renamed)
