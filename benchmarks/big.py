"""Train on quantised files of large shapes: how fast, and in how much memory.

    python benchmarks/big.py                    # 1.1B and 3B; 8B takes a quarter of an hour
    python benchmarks/big.py 1.1B 3B 8B
    python benchmarks/big.py 1.1B --compare     # the same weights as numbers in memory, as well
    python benchmarks/big.py 8B --recompute     # activations are computed again (less memory)

Makes a file of random weights for each shape of Llama (Q4_K, with the output head and the
embeddings in Q6_K), trains two steps of 4 rows of 256 tokens, a row at a time, on all linear layers
with r 16, and deletes the file. Each shape is a process of its own. "of products" is the share of
the rate at which this machine multiplies matrices of 1,024 rows in the same number format.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

ROWS, LENGTH, RANK, STEPS = 4, 256, 16, 2


@dataclass(frozen=True)
class Shape:
    hidden: int
    middle: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    tied: bool = False

    @property
    def matrices(self) -> list[tuple[str, tuple[int, int]]]:
        keys = self.hidden // self.heads * self.key_heads
        return [
            ("attn_q", (self.hidden, self.hidden)),
            ("attn_k", (keys, self.hidden)),
            ("attn_v", (keys, self.hidden)),
            ("attn_output", (self.hidden, self.hidden)),
            ("ffn_gate", (self.middle, self.hidden)),
            ("ffn_up", (self.middle, self.hidden)),
            ("ffn_down", (self.hidden, self.middle)),
        ]

    @property
    def multiplied(self) -> int:
        """Weights that each token is multiplied with, the output head among them."""
        layer = sum(rows * columns for _, (rows, columns) in self.matrices)
        return self.layers * layer + self.vocabulary * self.hidden


SHAPES = {
    "1.1B": Shape(2048, 5632, 22, 32, 4, 32_000),
    "3B": Shape(3072, 8192, 28, 24, 8, 128_256, tied=True),
    "8B": Shape(4096, 14_336, 32, 32, 8, 128_256),
}


def make(path: Path, shape: Shape) -> None:
    """Write a file of this shape, a tensor at a time."""
    import gguf
    from gguf import GGMLQuantizationType as Kind
    from make_gguf import STD, add_vocabulary, random_blocks

    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"Random weights, {path.stem}")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(8192)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.middle)
    writer.add_block_count(shape.layers)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_heads)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocabulary)
    add_vocabulary(writer, rng, shape.vocabulary)
    matrices = [("token_embd.weight", (shape.vocabulary, shape.hidden), Kind.Q6_K)]
    norms = ["output_norm.weight"]
    if not shape.tied:
        matrices.append(("output.weight", (shape.vocabulary, shape.hidden), Kind.Q6_K))
    for layer in range(shape.layers):
        matrices += [(f"blk.{layer}.{n}.weight", size, Kind.Q4_K) for n, size in shape.matrices]
        norms += [f"blk.{layer}.{name}.weight" for name in ("attn_norm", "ffn_norm")]
    for name in norms:
        writer.add_tensor_info(name, (shape.hidden,), np.dtype(np.float32), shape.hidden * 4)
    for name, size, kind in matrices:
        numbers, block = gguf.GGML_QUANT_SIZES[kind]
        width = size[1] // numbers * block
        writer.add_tensor_info(
            name, (size[0], width), np.dtype(np.uint8), size[0] * width, raw_dtype=kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _ in norms:
        values = 1 + STD * rng.standard_normal(shape.hidden, dtype=np.float32)
        writer.write_tensor_data(values.astype(np.float32))
    for _, size, kind in matrices:
        writer.write_tensor_data(random_blocks(rng, size, kind))
    writer.close()


def measure(
    path: Path, name: str, precision: str | None, dtype: str, *, recompute: bool
) -> dict[str, Any]:
    """Two steps on this file in this process."""
    start = time.perf_counter()
    import torch

    from lorita.engine.numerics import choose_numerics
    from lorita.engine.packed_model import packed_loss
    from lorita.engine.speedup import speedup
    from lorita.models.adapter import attach, lora_config
    from lorita.models.base import find_base
    from lorita.models.base_weights import load_model
    from lorita.system.memory import peak_memory

    numerics = choose_numerics(dtype)
    numerics.apply()
    base = replace(find_base(str(path)), precision=precision)
    begun = time.perf_counter()
    loaded = load_model(base, numerics.dtype)
    opened = time.perf_counter() - begun
    options = {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": "all-linear"}
    model = attach(loaded, lora_config(loaded, options), seed=0)
    if recompute:  # what --gradient-checkpointing does
        loaded.gradient_checkpointing_enable({"use_reentrant": False})
        loaded.enable_input_require_grads()
        loaded.train()
    speedup(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    ids = torch.randint(0, SHAPES[name].vocabulary, (ROWS * LENGTH,))
    times, cpu, first = [], [], 0.0
    for _ in range(STEPS):
        before, used = time.perf_counter(), time.process_time()
        for row in ids.split(LENGTH):  # one row at a time: activations take the least memory
            loss = packed_loss(model, row, row, [LENGTH]) / (ROWS * LENGTH)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - before)
        cpu.append(time.process_time() - used)
        first = first or time.perf_counter() - start
    best = min(times)
    work = 4 * SHAPES[name].multiplied * ROWS * LENGTH
    return {
        "opened": opened, "first": first, "step": best, "cpu": min(cpu),
        "tokens": ROWS * LENGTH / best, "share": work / best / product_rate(numerics.dtype),
        "peak": peak_memory(), "dtype": str(numerics.dtype).removeprefix("torch."),
    }  # fmt: skip


def product_rate(dtype: Any) -> float:
    """Operations per second of products of 1,024 rows with a weight of 4,096 by 4,096."""
    import torch

    from lorita.engine.kernels.products import product

    x, weight = torch.randn(1024, 4096).to(dtype), torch.randn(4096, 4096).to(dtype)
    times = []
    for _ in range(6):
        before = time.perf_counter()
        product(x, weight)
        times.append(time.perf_counter() - before)
    return 2 * x.numel() * len(weight) / min(times)


def in_own_process(
    path: Path, name: str, precision: str | None, dtype: str, *, recompute: bool
) -> dict[str, Any]:
    asked = [str(path), name, precision or "numbers", dtype]
    asked += ["--recompute"] if recompute else []
    done = subprocess.run(
        [sys.executable, __file__, "--measure", *asked],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("shapes", nargs="*", help=f"of {', '.join(SHAPES)}; default: 1.1B 3B")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        path, name, precision, dtype = given.measure
        kept = None if precision == "numbers" else precision
        print(json.dumps(measure(Path(path), name, kept, dtype, recompute=given.recompute)))
        return
    print(f"{'shape':6} {'weights':8} {'file':>7} {'opened':>7} {'1st step':>9} {'step':>7} "
          f"{'tokens/s':>9} {'of products':>12} {'peak':>8} {'processor':>10}")  # fmt: skip
    for name in given.shapes or ["1.1B", "3B"]:
        with tempfile.TemporaryDirectory(prefix="lorita-big-") as folder:
            path = Path(folder) / f"llama-{name}-q4_k.gguf"
            make(path, SHAPES[name])
            for precision in ("native", None) if given.compare else ("native",):
                found = in_own_process(
                    path, name, precision, given.dtype, recompute=given.recompute
                )
                print(
                    f"{name:6} {precision or found['dtype']:8} {path.stat().st_size / 1e9:4.2f} GB "
                    f"{found['opened']:6.1f}s {found['first']:8.1f}s {found['step']:6.1f}s "
                    f"{found['tokens']:9.1f} {found['share']:11.0%} {found['peak'] / 1e9:5.2f} GB "
                    f"{found['cpu']:8.1f}s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
