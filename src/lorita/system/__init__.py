"""The machine: memory, processes, and silencing other libraries."""
