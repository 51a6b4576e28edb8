"""From logits to token ids; knows nothing of text, audio or models."""
