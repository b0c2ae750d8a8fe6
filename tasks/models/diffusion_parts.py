"""The parts of the tiny Stable Diffusion, untrained: tokenizer, text encoder, VAE, UNet, noise schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.api import Params
from tasks.models import judge, scenes

SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")
VOCABULARY = (*SPECIAL, *sorted({word for prompt in judge.PROMPTS for word in prompt.split()}))
LENGTH = 6  # tokens of a prompt: start, three words, end, one to spare
GROUPS = 8  # of the group norms
SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


class Shape(Params):
    """Shape and training: the `diffusion` part of a model's settings."""

    text_hidden: int = 32
    vae_channels: int = 8  # then twice and four times as many
    latent_channels: int = 4
    unet_channels: int = 32  # then twice as many
    vae_steps: int = 600
    vae_batch: int = 16
    vae_rate: float = 0.005
    unet_steps: int = 900
    unet_batch: int = 32
    unet_rate: float = 0.002


def tokenizer() -> Any:
    """Words are tokens; every prompt is padded to LENGTH."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = [(mark, SPECIAL.index(mark)) for mark in ("<start>", "<end>")]
    inner.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=LENGTH, pad_token="<pad>", bos_token="<start>", eos_token="<end>",
        unk_token="<unk>",
    )  # fmt: skip


def tokens(prompts: Sequence[str]) -> Any:
    """int64 [n, LENGTH]."""
    made = tokenizer()(list(prompts), padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    return made.input_ids


def text_encoder(wanted: Shape) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(VOCABULARY), hidden_size=wanted.text_hidden, intermediate_size=2 * wanted.text_hidden,
            num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=LENGTH,
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


def vae(wanted: Shape) -> Any:
    """Pictures of 32 x 32 to latents of 8 x 8 and back."""
    from diffusers import AutoencoderKL

    wide = wanted.vae_channels
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(wide, 2 * wide, 4 * wide), layers_per_block=1, latent_channels=wanted.latent_channels,
        norm_num_groups=GROUPS, sample_size=scenes.SIDE, mid_block_add_attention=False,
    )  # fmt: skip


def unet(wanted: Shape) -> Any:
    from diffusers import UNet2DConditionModel

    wide = wanted.unet_channels
    return UNet2DConditionModel(
        sample_size=scenes.SIDE // 4, in_channels=wanted.latent_channels, out_channels=wanted.latent_channels,
        layers_per_block=1, block_out_channels=(wide, 2 * wide), norm_num_groups=GROUPS, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=wanted.text_hidden,
    )  # fmt: skip


def noising() -> Any:
    from diffusers import DDPMScheduler

    return DDPMScheduler(**SCHEDULE)


def pipeline(text: Any, vae: Any, unet: Any) -> Any:
    """The parts as a StableDiffusionPipeline with DDIM, like the model that it is named after."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return StableDiffusionPipeline(
        vae=vae.eval(), text_encoder=text.eval(), tokenizer=tokenizer(), unet=unet.eval(), scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
