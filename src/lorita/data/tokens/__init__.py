"""From rows to tokens, with the targets marked."""
