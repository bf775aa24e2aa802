"""TRL's SFTTrainer on a sped-up model, with its defaults: autocast to bf16, checkpointing.

pip install trl
python examples/trl_sft.py --max-steps 12
"""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

import lorita

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
parser.add_argument("--output-dir", default="runs/trl")
parser.add_argument("--max-steps", type=int, default=12)
given = parser.parse_args()

tokenizer = AutoTokenizer.from_pretrained(given.model)
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
prompts = Path(__file__).with_name("awesome-chatgpt-prompts.csv")
rows = load_dataset("csv", data_files=str(prompts), split="train")
config = LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM")
base = AutoModelForCausalLM.from_pretrained(given.model, dtype="bfloat16")
model = get_peft_model(base, config)

report = lorita.speedup(model)
print(report)

trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir=given.output_dir,
        learning_rate=2e-3,
        max_steps=given.max_steps,
        per_device_train_batch_size=8,
        max_length=512,
        use_cpu=True,
        report_to=[],
        logging_steps=1,
    ),
    train_dataset=rows.select_columns(["prompt"]).rename_column("prompt", "text"),
    processing_class=tokenizer,
)
trainer.train()
model.save_pretrained(given.output_dir)
print(f"{report.calls['fast']} training calls by the fast step, {report.calls['own']} without it")
