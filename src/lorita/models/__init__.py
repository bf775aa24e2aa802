"""Base models and adapters, wherever they lie. Nothing here trains or generates."""
