"""The vocabulary: plans, instructions, values, futures, facts. Pure and frozen; imports nothing above it."""
