"""The training loop and what it needs. It yields events and prints nothing."""
