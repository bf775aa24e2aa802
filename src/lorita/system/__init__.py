"""The machine: memory, processes, and the noise that other libraries make."""
