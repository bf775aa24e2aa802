"""A Modelfile with its template and its GGUF file."""
