"""Attacks on the product: kills, two writers, hostile folders and caches, malformed files."""
