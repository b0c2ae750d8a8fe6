"""LoRA fine-tuning with peft and transformers, on question-and-answer rows.

    python finetune_lora.py --model DIR_OR_HUB_NAME --data qa_dataset.jsonl --output lora_adapter

The defaults are those of the plan: r=8, alpha=16, q_proj and v_proj, batch 2, 2 epochs. Every row goes through the
model's chat template; the loss is taken on the answer alone (-100 hides the question from it).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

HIDDEN = -100  # a label that cross entropy passes over


def main() -> None:
    chosen = arguments()
    torch.manual_seed(chosen.seed)
    tokenizer = AutoTokenizer.from_pretrained(chosen.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(chosen.model, dtype=dtype)

    config = LoraConfig(
        r=chosen.rank, lora_alpha=chosen.alpha, target_modules=chosen.targets.split(","), task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, config)
    model.print_trainable_parameters()

    rows = [json.loads(line) for line in chosen.data.read_text(encoding="utf-8").splitlines() if line.strip()]
    trainer = Trainer(
        model=model,
        train_dataset=[encoded(tokenizer, row) for row in rows],
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=HIDDEN),
        args=TrainingArguments(
            output_dir=str(chosen.output / "checkpoints"), per_device_train_batch_size=chosen.batch,
            num_train_epochs=chosen.epochs, learning_rate=chosen.learning_rate, save_strategy="no",
            logging_steps=20, report_to="none", seed=chosen.seed, bf16=torch.cuda.is_available(),
            gradient_accumulation_steps=chosen.accumulate, dataloader_pin_memory=torch.cuda.is_available(),
        ),
    )  # fmt: skip
    trainer.train()
    model.save_pretrained(chosen.output)
    print(f"the adapter of {len(rows)} rows is in {chosen.output}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--targets", default="q_proj,v_proj")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=90)
    return parser.parse_args()


def encoded(tokenizer: Any, row: dict[str, Any]) -> dict[str, list[int]]:
    """Token ids of question and answer, and labels in which only the answer counts."""
    *prompt, answer = row.get("messages") or turns(row)
    head = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = tokenizer.apply_chat_template([*prompt, answer], return_dict=True)["input_ids"]
    return {
        "input_ids": whole,
        "attention_mask": [1] * len(whole),
        "labels": [HIDDEN] * len(head) + whole[len(head) :],
    }


def turns(row: dict[str, str]) -> list[dict[str, str]]:
    """A row of question and answer as a conversation."""
    asked = [("system", row.get("system")), ("user", row["question"]), ("assistant", row["answer"])]
    return [{"role": role, "content": text} for role, text in asked if text]


if __name__ == "__main__":
    main()
