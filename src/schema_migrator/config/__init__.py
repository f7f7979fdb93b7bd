"""Reads flags and environment variables into one frozen Settings, and refuses every value that is wrong.

Nothing here connects to a server.
"""
