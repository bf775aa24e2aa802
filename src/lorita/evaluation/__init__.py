"""Measures of a model on rows: what it learned."""
