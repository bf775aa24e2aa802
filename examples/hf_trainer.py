"""An ordinary PEFT and HF Trainer script, plus one line.

python examples/hf_trainer.py --max-steps 12
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

import lorita

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
parser.add_argument("--output-dir", default="runs/hf-trainer")
parser.add_argument("--max-steps", type=int, default=12)
given = parser.parse_args()

tokenizer = AutoTokenizer.from_pretrained(given.model)
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
prompts = Path(__file__).with_name("awesome-chatgpt-prompts.csv")
with prompts.open(encoding="utf-8", newline="") as file:
    texts = [row["prompt"] + tokenizer.eos_token for row in csv.DictReader(file)]
config = LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM")
base = AutoModelForCausalLM.from_pretrained(given.model, dtype="bfloat16")
model = get_peft_model(base, config)

report = lorita.speedup(model)  # the extra line
print(report)

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=given.output_dir,
        learning_rate=2e-3,
        max_steps=given.max_steps,
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to=[],
        logging_steps=1,
    ),
    train_dataset=[{"input_ids": ids} for ids in tokenizer(texts)["input_ids"]],
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
)
trainer.train()
model.save_pretrained(given.output_dir)
print(f"{report.calls['fast']} training calls by the fast step, {report.calls['own']} without it")
