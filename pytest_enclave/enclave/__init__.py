"""What users hold: enclaves, services, ports; and who shares which enclave."""
