"""What pytest-enclave costs, side by side with the alternatives: `python -m benchmarks`."""
