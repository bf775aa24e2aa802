"""Text from a model, with or without an adapter, through transformers or llama.cpp."""
