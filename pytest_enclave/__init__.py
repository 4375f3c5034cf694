"""Environment-as-code testing for pytest."""
