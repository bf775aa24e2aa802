"""The training loop and what it needs. It yields events; it prints nothing."""
