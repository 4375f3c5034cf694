"""Dockerfiles: what is written in them."""
