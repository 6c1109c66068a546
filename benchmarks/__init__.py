"""What is measured, and against what: `python -m benchmarks [ONLY]`. A figure is a ratio taken in one run, so that it travels."""
