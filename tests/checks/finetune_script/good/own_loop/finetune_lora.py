"""LoRA without a Trainer: a loop of one's own, a row at a time."""

import argparse
import json

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
for name in ("model", "data", "output", "targets"):
    parser.add_argument(f"--{name}")
for name in ("rank", "alpha", "batch", "epochs"):
    parser.add_argument(f"--{name}", type=int)
parser.add_argument("--learning-rate", type=float)
given = parser.parse_args()

torch.manual_seed(1)
tokenizer = AutoTokenizer.from_pretrained(given.model)
config = LoraConfig(r=given.rank, lora_alpha=given.alpha, target_modules=given.targets.split(","))
model = get_peft_model(AutoModelForCausalLM.from_pretrained(given.model), config)
optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=given.learning_rate)
rows = [json.loads(line) for line in open(given.data, encoding="utf-8")]
for _ in range(given.epochs):
    for row in rows:
        prompt = [{"role": "user", "content": row["question"]}]
        told = [*prompt, {"role": "assistant", "content": row["answer"]}]
        head = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
        ids = torch.tensor([tokenizer.apply_chat_template(told, return_dict=True)["input_ids"]])
        labels = ids.clone()
        labels[0, : len(head)] = -100
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
model.save_pretrained(given.output)
