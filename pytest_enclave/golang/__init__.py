"""What packages expect of Go, written in Python: durations, text/template, YAML 1.1 arguments, jq results.

Packages were written for an engine in Go, and its habits show: how a number prints, which words are booleans,
what an unknown key in a template is. Each module here reproduces one such habit, down to the error text, and is
held to answers recorded from the real thing (`tests/golden/`). Nothing here knows about plans or services.
"""
