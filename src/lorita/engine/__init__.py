"""The fast LoRA step: kernels, attention, loss, and the function that installs them on a model.

Works on plain tensors and modules, and knows nothing of settings, files or runs.
"""
