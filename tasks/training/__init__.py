"""Fine-tuning: LoRA and QLoRA by trl and peft, preferences, what is forgotten, the tuned model served."""
