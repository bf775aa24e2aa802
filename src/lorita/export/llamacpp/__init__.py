"""A run answered by llama.cpp, with the files that it needs."""
