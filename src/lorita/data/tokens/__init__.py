"""From rows to tokens and the mask of what is trained."""
