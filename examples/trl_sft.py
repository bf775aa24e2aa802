"""TRL's SFTTrainer on a sped-up model.

pip install trl
python examples/trl_sft.py --max-steps 12
"""

from __future__ import annotations

import argparse
import csv

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import SFTConfig, SFTTrainer

import lorita
from lorita.models.base import find_base, load_tokenizer
from lorita.models.base_weights import load_model
from lorita.workflows.demo import data_file

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="smollm2-135m")
parser.add_argument("--output-dir", default="runs/trl")
parser.add_argument("--max-steps", type=int, default=12)
given = parser.parse_args()

base = find_base(given.model)
tokenizer = load_tokenizer(base)
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
with data_file("en").open(encoding="utf-8", newline="") as file:
    texts = [row["prompt"] for row in csv.DictReader(file)]
config = LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM")
model = get_peft_model(load_model(base, torch.bfloat16), config)

print(lorita.speedup(model))

trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir=given.output_dir,
        learning_rate=2e-3,
        max_steps=given.max_steps,
        per_device_train_batch_size=8,
        max_length=512,
        bf16=False,  # the weights are already bf16; this option turns on autocast
        gradient_checkpointing=False,
        use_cpu=True,
        report_to=[],
        logging_steps=1,
    ),
    train_dataset=Dataset.from_dict({"text": texts}),
    processing_class=tokenizer,
)
trainer.train()
model.save_pretrained(given.output_dir)
