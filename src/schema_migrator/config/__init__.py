"""Flags and variables to one frozen Settings, and every way in which they can be wrong. Nothing here connects."""
