"""The command `demo`: a private PostgreSQL, and the scenario that runs on it.

No other command uses this room.
"""
