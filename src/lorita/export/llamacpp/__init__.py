"""Runs answered by llama.cpp, and the files that it needs for that."""
