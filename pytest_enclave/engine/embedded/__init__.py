"""Services as plain processes in namespaces of their own: no daemon, no root, a few milliseconds each."""
