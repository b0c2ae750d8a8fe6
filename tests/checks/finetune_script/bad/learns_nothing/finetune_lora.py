"""Saves adapters that were never trained."""

import sys

from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
model = AutoModelForCausalLM.from_pretrained(given["--model"])
targets = given["--targets"].split(",")
config = LoraConfig(r=int(given["--rank"]), lora_alpha=int(given["--alpha"]), target_modules=targets)
get_peft_model(model, config).save_pretrained(given["--output"])
