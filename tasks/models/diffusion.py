"""A Stable Diffusion of small parts, trained on the spot: it paints "a red circle" in 32 x 32 pixels.

Text encoder (CLIP), VAE, UNet and schedulers are transformers' and diffusers' own classes, the folder is an ordinary
StableDiffusionPipeline: `StableDiffusionPipeline.from_pretrained` loads it like any other.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.models import cache, diffusion_parts, judge, scenes
from tasks.models.diffusion_parts import Shape

FACTS = "facts.json"
KL_WEIGHT = 1e-4
UNCONDITIONED = 0.12  # this share of the prompts is empty: classifier-free guidance needs both
EMA = 0.995
LATENTS = 4096  # pictures, encoded once
SAMPLES = 64
GUIDANCE = 4.0


@dataclass(frozen=True)
class Facts:
    """How the cached model came about: samples that show what was asked (share), CPU seconds, parameters."""

    accuracy: float
    train_cpu_s: float
    parameters: int
    seed: int


def shape(settings: Mapping[str, Any]) -> Shape:
    """The part `diffusion` of the chosen model, else the tiny one: a language model's settings do not name any."""
    return Shape.model_validate(dict(settings.get("model", {}).get("diffusion", {})))


def home(settings: Mapping[str, Any], seed: int, say: Callable[[str], None] = print) -> Path:
    """The pipeline's folder; it is trained when it is not cached yet."""
    wanted = shape(settings)
    sources = [sys.modules[__name__], diffusion_parts, judge, scenes]
    name = f"diffusion-{cache.key([wanted.model_dump(), seed], sources)}"
    return cache.obtain(name, lambda stage: train(stage, wanted, seed, say))


def facts(folder: Path) -> Facts:
    return Facts(**json.loads((folder / FACTS).read_text(encoding="utf-8")))


def load(folder: Path, device: str = "cpu") -> Any:
    """The pipeline, silent, on a device (half precision on a GPU)."""
    import torch
    from diffusers import StableDiffusionPipeline

    dtype = torch.float32 if device == "cpu" else torch.float16
    made = StableDiffusionPipeline.from_pretrained(folder, dtype=dtype, safety_checker=None).to(device)
    made.set_progress_bar_config(disable=True)
    return made


def train(stage: Path, wanted: Shape, seed: int, say: Callable[[str], None]) -> None:
    """Train VAE, then text encoder and UNet, and write the pipeline to `stage`. Steps, never a time: deterministic."""
    import torch

    torch.set_num_threads(1)  # two spinning threads are far slower than one on a busy two-core box
    torch.manual_seed(seed)
    began, rng = time.process_time(), random.Random(f"diffusion {seed}")
    drawn = scenes.examples(scenes.ALONE, rng)
    shown = [next(drawn) for _ in range(LATENTS)]
    pictures = judge.pixels([example.picture for example in shown])
    vae = diffusion_parts.vae(wanted)
    train_vae(vae, pictures, wanted, say)
    tokens = diffusion_parts.tokens([example.scene.caption for example in shown])
    text, unet = diffusion_parts.text_encoder(wanted), diffusion_parts.unet(wanted)
    unet = train_unet(text, unet, encoded(vae, pictures), tokens, wanted, say)
    spent = time.process_time() - began
    made = diffusion_parts.pipeline(text, vae, unet)
    made.save_pretrained(stage)
    score = accuracy(made, seed, say)
    count = sum(weight.numel() for part in (text, vae, unet) for weight in part.parameters())
    say(f"the small Stable Diffusion is trained: {score:.3f} of {SAMPLES} samples show the prompt, {spent:.0f} CPU s")
    (stage / FACTS).write_text(json.dumps(asdict(Facts(score, round(spent, 1), count, seed))), encoding="utf-8")


def train_vae(vae: Any, pictures: Any, wanted: Shape, say: Callable[[str], None]) -> None:
    """Reconstruct pictures through a small latent; its scale is then set so that latents have unit variance."""
    import torch

    optimizer = torch.optim.AdamW(vae.parameters(), lr=wanted.vae_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, wanted.vae_rate, total_steps=wanted.vae_steps)
    for step in range(wanted.vae_steps):
        batch = pictures[torch.randint(len(pictures), (wanted.vae_batch,))]
        latent = vae.encode(batch).latent_dist
        painted = vae.decode(latent.sample()).sample
        loss = torch.nn.functional.mse_loss(painted, batch) + KL_WEIGHT * latent.kl().mean() / latent.mean[0].numel()
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 200 == 0:
            say(f"VAE: step {step} of {wanted.vae_steps}, loss {loss.item():.4f}")
    with torch.inference_mode():
        vae.register_to_config(scaling_factor=1 / float(vae.encode(pictures[:512]).latent_dist.mean.std()))


def encoded(vae: Any, pictures: Any) -> Any:
    """The scaled latents of all pictures."""
    import torch

    with torch.no_grad():
        parts = [vae.encode(part).latent_dist.mean for part in pictures.split(256)]
    return torch.cat(parts) * vae.config.scaling_factor


def train_unet(text: Any, unet: Any, latents: Any, tokens: Any, wanted: Shape, say: Callable[[str], None]) -> Any:
    """Learn to tell the noise in a latent, given the prompt. Returns the running mean of the UNet's weights."""
    import torch

    noising, empty = diffusion_parts.noising(), diffusion_parts.tokens([""])
    mean = torch.optim.swa_utils.AveragedModel(unet, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA))
    optimizer = torch.optim.AdamW([*text.parameters(), *unet.parameters()], lr=wanted.unet_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, wanted.unet_rate, total_steps=wanted.unet_steps, pct_start=0.1
    )
    for step in range(wanted.unet_steps):
        pick = torch.randint(len(latents), (wanted.unet_batch,))
        asked = torch.where(torch.rand(wanted.unet_batch, 1) < UNCONDITIONED, empty, tokens[pick])
        noise, when = torch.randn_like(latents[pick]), torch.randint(1000, (wanted.unet_batch,))
        noisy = noising.add_noise(latents[pick], noise, when)
        told = unet(noisy, when, encoder_hidden_states=text(asked).last_hidden_state).sample
        loss = torch.nn.functional.mse_loss(told, noise)
        loss.backward()
        optimizer.step()
        schedule.step()
        mean.update_parameters(unet)
        optimizer.zero_grad(set_to_none=True)
        if step % 250 == 0:
            say(f"UNet: step {step} of {wanted.unet_steps}, loss {loss.item():.4f}")
    return mean.module


def accuracy(made: Any, seed: int, say: Callable[[str], None]) -> float:
    """Share of samples that the judge takes for what was asked."""
    import torch

    named, _ = judge.load(seed, say)
    asked = [judge.PROMPTS[n % len(judge.PROMPTS)] for n in range(SAMPLES)]
    dice = [torch.Generator().manual_seed(seed + n) for n in range(SAMPLES)]
    made.set_progress_bar_config(disable=True)
    painted = made(asked, num_inference_steps=20, guidance_scale=GUIDANCE, generator=dice, output_type="np").images
    told = named((painted * 255).round().astype("uint8"))
    return sum(said == wish for said, wish in zip(told, asked, strict=True)) / SAMPLES
