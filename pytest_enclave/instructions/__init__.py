"""One file per `plan.*` function: its parameters, its footprint, its check, its effect, together."""
