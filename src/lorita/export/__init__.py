"""Runs for other programs: merged models, GGUF files, Ollama, the hub."""
