"""Single operations, each with its own backward pass; they know tensors, not models."""
