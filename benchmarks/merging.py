"""How much memory merging needs, compared with the size of the base and of its largest layer.

    python benchmarks/merging.py --shape 360M
    python benchmarks/merging.py --shape 1.1B --dtype float32

A Llama of the given shape with random weights and a LoRA on all linear layers is saved and merged.
Every few milliseconds the process's own memory (RssAnon) and all resident memory (VmRSS) are
measured; the output is the peak above the value before loading. VmRSS includes mapped files, which
the system reclaims when it needs the memory.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parent))
from scaling import SHAPES

from lorita.export.merged.merge import merge
from lorita.models.adapter import attach, lora_config, save_adapter, trainable_parameters
from lorita.models.base import find_base, load_tokenizer

KINDS = ("RssAnon", "VmRSS")


def resident_mib() -> dict[str, float]:
    """The memory of this process by kind, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {kind: int(fields[kind].split()[0]) / 1024 for kind in KINDS}


class Peak(threading.Thread):
    """The peak of each kind of memory while this thread runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.mib, self.going = resident_mib(), True

    def run(self) -> None:
        while self.going:
            now = resident_mib()
            self.mib = {kind: max(self.mib[kind], now[kind]) for kind in KINDS}
            time.sleep(0.005)

    def stop(self) -> dict[str, float]:
        self.going = False
        self.join()
        return self.mib


def save_job(folder: Path, shape: str, dtype: torch.dtype) -> tuple[Path, Path]:
    """A base with random weights and an adapter that changes every one of its linear layers."""
    config = LlamaConfig(**SHAPES[shape], tie_word_embeddings=True)
    config.vocab_size = max(config.vocab_size, 49152)  # the tokenizer's
    model = LlamaForCausalLM._from_config(config, dtype=dtype).requires_grad_(False)
    base, run = folder / "base", folder / "run"
    model.save_pretrained(base)
    load_tokenizer(find_base("smollm2-135m")).save_pretrained(base)
    model.name_or_path = str(base)
    tuned = attach(model, lora_config(model, {"r": 8, "target_modules": "all-linear"}), seed=0)
    for parameter in trainable_parameters(tuned).values():
        parameter.data += 0.01 * torch.randn_like(parameter)
    run.mkdir()
    save_adapter(tuned, run)
    return base, run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="360M")
    parser.add_argument("--dtype", default="bfloat16", help="dtype of the base")
    parser.add_argument("--folder", type=Path, help="keep the models in this folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = given.folder or Path(place)
        if not (folder / "run").is_dir():
            # In its own process: the memory for creating the models must not count.
            import multiprocessing

            job = (folder, given.shape, getattr(torch, given.dtype))
            child = multiprocessing.get_context("spawn").Process(target=save_job, args=job)
            child.start()
            child.join()
        before = resident_mib()
        peak = Peak()
        peak.start()
        made = merge(folder / "run", folder / "merged", overwrite=True)
        most = peak.stop()
    sizes = SHAPES[given.shape]
    layer = max(sizes["intermediate_size"] * sizes["hidden_size"], 49152 * sizes["hidden_size"])
    print(f"base in {given.dtype}: {made.size / 2**20:,.0f} MiB")
    print(f"largest matrix in float32: {4 * layer / 2**20:,.0f} MiB")
    own, total = (most[kind] - before[kind] for kind in KINDS)
    print(f"peak above the start: {own:,.0f} MiB, {total:,.0f} MiB including mapped files")
    print(made.agreement.line())


if __name__ == "__main__":
    main()
