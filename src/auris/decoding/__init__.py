"""From logits to token ids. Nothing here knows text, audio or models."""
