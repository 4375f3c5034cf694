"""Linux, as the embedded engine needs it: namespaces, mounts, network links, limits. Standard library alone."""
