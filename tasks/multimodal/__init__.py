"""Pictures in and out: a vision-language model and a diffusion model, served, measured and scored."""
