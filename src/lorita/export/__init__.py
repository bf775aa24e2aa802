"""Take a run to other programs."""
