"""Temporal's own server and frontends, and workflows on them."""
