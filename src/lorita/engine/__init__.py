"""The fast LoRA step: kernels, attention, loss, and the call that puts them into a model.

Everything here works on plain tensors and modules; nothing knows of settings, files or runs.
"""
