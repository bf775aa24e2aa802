"""The function behind each command. It takes settings and yields events or results."""
