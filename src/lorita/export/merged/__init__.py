"""Base and adapter merged into one plain model."""
