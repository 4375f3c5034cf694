"""Images without a daemon: where they come from, and the layers as directories."""
