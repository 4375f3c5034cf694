"""What runs in the processes of an enclave. Standard library alone: they start without site-packages."""
