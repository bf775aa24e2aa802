"""Folders for ``ollama create``: a Modelfile with its template, and a GGUF file."""
