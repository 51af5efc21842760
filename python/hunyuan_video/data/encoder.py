"""The encoders of a checkpoint: clips and captions to latents and text features; hashes that tell encoders apart."""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn

from hunyuan_video.checkpoints.layout import checkpoint_folder
from hunyuan_video.checkpoints.pipeline import load_parts
from hunyuan_video.data.latent_dataset import EncodedClip, unstorable
from hunyuan_video.data.record import FORMAT
from hunyuan_video.data.sources import Clip
from hunyuan_video.errors import PrecisionWarning, notify
from hunyuan_video.fingerprint import weights_hash
from hunyuan_video.flow import with_first_frame
from hunyuan_video.media.pixels import to_unit
from hunyuan_video.models import CausalVAE, ClipTextEncoder, TextEncoder

DECODER = ("decoder.", "post_quant_conv.")  # parameters that do not change latents


def vae_fingerprint(vae: CausalVAE, form: int = FORMAT) -> str:
    """A short hash of the VAE's encoder weights and its configuration: latents of another are never mixed in.

    form: format of a data set; the hash of format 1 is over the weights alone.
    """
    weights = ((name, value) for name, value in sorted(vae.state_dict().items()) if not name.startswith(DECODER))
    return weights_hash(weights, repr(vae.config) if form > 1 else "")


@torch.no_grad()
def encode_clips(
    vae: CausalVAE,
    video: Tensor,  # [N, 3, F, H, W] in [-1, 1]
    *,
    image_first: bool = False,
) -> Tensor:
    """Means of the posterior in model space: [N, C, T, h, w] float32.

    image_first: for image-to-video the first latent is that of the first frame encoded alone, as an image is when one
    samples. It is not the clip's own: the norms and the attention of the encoder see all frames.
    """
    latents = vae.encode(video).mode().float()
    if image_first:
        latents = with_first_frame(latents, vae.encode(video[:, :, :1]).mode())
    return latents * vae.config.scaling_factor


def text_fingerprint(text: TextEncoder, clip: ClipTextEncoder, form: int = FORMAT) -> str:
    """A short hash of both text encoders, their tokenizers (not in format 1), and how prompts are framed."""
    framing = (text.template, text.skip_layer, text.apply_final_norm, clip.max_length)
    frames = repr((*framing, [module.tokenizer.identity() for module in (text, clip)]) if form > 1 else framing)
    weights = chain(*(sorted(cast(nn.Module, module).state_dict().items()) for module in (text.model, clip.model)))
    return weights_hash(weights, frames)


class Encoder:
    """The encoders of a checkpoint, and clips turned into what the transformer trains on."""

    def __init__(self, model: str, device: str):
        parts = load_parts(
            checkpoint_folder(model),
            ("vae", "text_encoder", "clip_text_encoder"),
            dtype=None,
            device=torch.device(device),
        )
        self.vae: CausalVAE = parts["vae"]
        self.text: TextEncoder = parts["text_encoder"]
        self.clip: ClipTextEncoder = parts["clip_text_encoder"]
        self.device = device

    def description(self) -> dict:
        return {"format": FORMAT, **self.hashes(), "text_length": self.text.text_length}

    def hashes(self, form: int = FORMAT) -> dict[str, str]:
        """Fingerprints of the encoders as data sets of a format hold them; data encoded with equal ones fits."""
        return {"vae": vae_fingerprint(self.vae, form), "text": text_fingerprint(self.text, self.clip, form)}

    @torch.no_grad()
    def sentences(self, captions: list[str], video: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
        """([n_k, D] bfloat16 for each sentence, [K, P] bfloat16). ValueError for features that are not finite."""
        encoded = self.text(captions, video=video)
        lengths = encoded.mask.sum(1).tolist()
        texts = [states[:n].bfloat16().cpu() for states, n in zip(encoded.hidden, lengths, strict=True)]
        pooled = self.clip(captions).pooled.bfloat16().cpu()
        if not (pooled.isfinite().all() and all(states.isfinite().all() for states in texts)):
            raise ValueError("text features are not finite: look at the text encoders, or use them in float32")
        return texts, pooled

    def latents(self, pixels: list[Tensor], *, image_first: bool = False) -> Tensor:
        """Latents [N, C, T, h, w], float32 on the CPU, of clips of one size, uint8 [F, H, W, 3] each.

        A VAE in float16 that leaves its range encodes again, and from then on, in float32.
        """
        video = to_unit(torch.stack(pixels)).to(self.device)
        weight = next(self.vae.parameters())
        latents = encode_clips(self.vae, video.to(weight.dtype), image_first=image_first).cpu()
        if weight.dtype == torch.float16 and not latents.isfinite().all():
            text = "the VAE leaves the range of float16 on these clips; it encodes from here on in float32"
            notify(text, PrecisionWarning)
            self.vae = deepcopy(self.vae).float()
            latents = encode_clips(self.vae, video.float(), image_first=image_first).cpu()
        return latents

    def encode(self, clips: list[Clip], pixels: list[Tensor], *, image_first: bool = False) -> list[EncodedClip | str]:
        """Clips of one bucket with their pixels, uint8 [F, H, W, 3] each; in place of one, why it cannot be stored."""
        encoded: list[EncodedClip | str] = []
        for clip, latent in zip(clips, self.latents(pixels, image_first=image_first), strict=True):
            if reason := unstorable(latent):
                encoded.append(f"latents {reason}")
                continue
            try:
                texts, pooled = self.sentences(clip.captions, clip.bucket.frames > 1)
                encoded.append(EncodedClip(clip.key, latent.half(), clip.captions, texts, pooled))
            except ValueError as error:
                encoded.append(str(error))
        return encoded
