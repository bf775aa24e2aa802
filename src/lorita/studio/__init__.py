"""``lorita studio``: the whole way from a text to a proven adapter, as a page in a browser."""
