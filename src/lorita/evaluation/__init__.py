"""What a run achieved: before and after, the proof, and the checks that it must pass."""
