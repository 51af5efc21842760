"""The text side of the bundled checkpoint, from nothing: tokenizers, a frozen language model, a contrastive CLIP."""

from hunyuan_video.training.text.trainer import TextTrainingConfig, train_text

__all__ = ["TextTrainingConfig", "train_text"]
