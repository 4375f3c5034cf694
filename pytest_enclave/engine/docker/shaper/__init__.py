"""The process that shapes an enclave's traffic. It runs by itself, also in containers: the standard library alone."""

SOCKET = "shaper"
"""The name of the socket that it listens on, in its directory."""
