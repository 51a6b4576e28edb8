"""Tokenizer, prompt, reply: between text and token ids."""
