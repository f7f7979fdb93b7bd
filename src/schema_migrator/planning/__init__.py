"""The plan of a run as a value, which of its steps can run online, and what would stop it.

Nothing here changes a store; `execution` and `online` do.
"""
