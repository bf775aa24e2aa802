"""Base and adapter as one plain model."""
