"""GGUF files of adapters and merged models."""
