"""What runs services. `protocol` says what an engine is; `select` finds one; each engine has a folder of its own."""
