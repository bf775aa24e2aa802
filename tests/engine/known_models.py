"""The families that docs/models.md lists, with what lorita does with each; tests hold it to that.

python -m tests.engine.known_models        # writes the table into docs/models.md
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/models.md"
START, END = "<!-- families -->", "<!-- end of families -->"
OWN, INTERFACE, THEIRS = "lorita", "lorita, through transformers' interface", "transformers"


@dataclass(frozen=True)
class Known:
    """A family: its name for people, and how a tiny model of ``model_type`` is computed.

    ``attention`` is one of the constants above; empty if the model has none.
    """

    name: str
    model_type: str
    attention: str = OWN
    rows: str = "packed"
    recurrent: bool = False
    gguf: bool = False
    text: str = OWN

    def cells(self) -> list[str]:
        """A row of the table."""
        rows = "end to end" if self.rows == "packed" else self.rows
        if self.recurrent and self.rows == "packed":
            rows = "end to end; side by side in recurrent layers"
        return [
            self.name,
            f"`{self.model_type}`",
            self.attention or "none",
            rows,
            "yes" if self.gguf else "no",
            self.text,
        ]


KNOWN = (
    Known("Llama, SmolLM2", "llama", gguf=True),
    Known("Mistral", "mistral", gguf=True),
    Known("Ministral (8B)", "ministral", gguf=True),
    Known("Ministral 3", "ministral3", gguf=True),
    Known("SmolLM3", "smollm3", gguf=True),
    Known("Qwen 2 and 2.5", "qwen2", gguf=True),
    Known("Qwen 3", "qwen3", gguf=True),
    Known("Qwen 3 MoE", "qwen3_moe", gguf=True),
    Known("Qwen 3 Next", "qwen3_next", recurrent=True, gguf=True, text=THEIRS),
    Known("Qwen 3.5", "qwen3_5_text", recurrent=True, gguf=True, text=THEIRS),
    Known("Qwen 3.5 MoE", "qwen3_5_moe_text", recurrent=True, gguf=True, text=THEIRS),
    Known("Gemma", "gemma", gguf=True),
    Known("Gemma 2", "gemma2", gguf=True),
    Known("Gemma 3", "gemma3_text", gguf=True),
    Known("Gemma 3n", "gemma3n_text", INTERFACE, gguf=True, text=THEIRS),
    Known("Gemma 4", "gemma4_text", INTERFACE, gguf=True, text=THEIRS),
    Known("Phi 3 and 4", "phi3", gguf=True),
    Known("Granite 3", "granite", gguf=True),
    Known("Granite MoE", "granitemoe", gguf=True),
    Known("Granite 4", "granitemoehybrid", recurrent=True, gguf=True, text=THEIRS),
    Known("LFM2", "lfm2", recurrent=True, gguf=True, text=THEIRS),
    Known("LFM2 MoE", "lfm2_moe", recurrent=True, gguf=True, text=THEIRS),
    Known("LFM3", "lfm3", INTERFACE, recurrent=True, text=THEIRS),
    Known("OLMo 2", "olmo2", gguf=True),
    Known("OLMo 3", "olmo3", gguf=True),
    Known("OLMo hybrid", "olmo_hybrid", recurrent=True, text=THEIRS),
    Known("OLMoE", "olmoe", gguf=True),
    Known("Mixtral", "mixtral", gguf=True),
    Known("gpt-oss", "gpt_oss", THEIRS, rows="padded", text=THEIRS),
    Known("Cohere 2", "cohere2", INTERFACE, gguf=True, text=THEIRS),
    Known("StarCoder2", "starcoder2", gguf=True),
    Known("HyperCLOVA X", "hyperclovax"),
    Known("GPT-2", "gpt2", gguf=True),
    Known("GPT-NeoX, Pythia", "gpt_neox", gguf=True),
    Known("OPT", "opt"),
    Known("BLOOM", "bloom", gguf=True),
    Known("Falcon", "falcon", gguf=True),
    Known("Falcon H1", "falcon_h1", THEIRS, rows="padded", text=THEIRS),
    Known("Jamba", "jamba", recurrent=True, gguf=True, text=THEIRS),
    Known("Nemotron H", "nemotron_h", recurrent=True, text=THEIRS),
    Known("Mamba 2", "mamba2", "", recurrent=True, gguf=True, text=THEIRS),
    Known("RWKV", "rwkv", "", rows="padded", text=THEIRS),
)


def table() -> str:
    """The table in docs/models.md."""
    head = ["Family", "`model_type`", "Attention by", "Rows of a micro-batch", "GGUF", "Text by"]
    lines = [head, ["---"] * len(head), *(known.cells() for known in KNOWN)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def in_page(text: str) -> str:
    """The page with the table between its marks."""
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    return f"{before}{START}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(in_page(PAGE.read_text("utf-8")), "utf-8")
