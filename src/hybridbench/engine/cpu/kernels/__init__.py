"""The CPU engine's inner loops."""
