"""What every run needs to change a store: its context, the advisory lock, guarded transactions, the version table.

Nothing here runs the vendor's statements; `execution` and `online` do.
"""
