"""Adapters and merged models as GGUF files."""
