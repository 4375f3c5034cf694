"""What an enclave keeps: its journal of executed instructions, and its files artifacts."""
