"""The pytest face behind `plugin.py`: options, demands, the session's enclaves, items, reports."""
