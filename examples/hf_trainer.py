"""An ordinary PEFT and HF Trainer script, plus one line.

python examples/hf_trainer.py --max-steps 12
"""

from __future__ import annotations

import argparse
import csv

import torch
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import lorita
from lorita.models.base import find_base, load_tokenizer
from lorita.models.base_weights import load_model
from lorita.workflows.demo import data_file

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="smollm2-135m")
parser.add_argument("--output-dir", default="runs/hf-trainer")
parser.add_argument("--max-steps", type=int, default=12)
given = parser.parse_args()

base = find_base(given.model)
tokenizer = load_tokenizer(base)
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
with data_file("en").open(encoding="utf-8", newline="") as file:
    texts = [row["prompt"] + tokenizer.eos_token for row in csv.DictReader(file)]
config = LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM")
model = get_peft_model(load_model(base, torch.bfloat16), config)

print(lorita.speedup(model))  # the extra line

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
