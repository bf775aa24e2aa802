"""Base models and adapters: found, checked and loaded. Nothing here trains or generates."""
