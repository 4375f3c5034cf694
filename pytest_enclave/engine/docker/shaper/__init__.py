"""The process that shapes an enclave's traffic. It runs by itself, also in containers: the standard library alone."""

SOCKET = "shaper"
"""The name of the socket that it listens on, in its directory."""

DELAYS = "enclave-delays"
"""The name of a link, in the networks of services, for what the kernel holds up by itself."""
