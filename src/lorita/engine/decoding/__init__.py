"""Text, token by token: a causal model's step over a cache of keys and values.

``writer.py`` is what callers use: texts join and leave a batch, and each step adds a token to each.
"""

ACTIVE = ""
"""The name of whichever adapter is switched on."""
