"""One run: a package and its arguments, taken through the pipeline into an enclave."""
