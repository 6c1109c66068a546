"""The deterministic simulation: the real code over the memory backend, every storage call a point where anything may happen."""
