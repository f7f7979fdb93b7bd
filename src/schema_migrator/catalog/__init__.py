"""Reads PostgreSQL's catalogs about a store: facts, snapshots, blockers, owners, leftovers and the seed row.

Nothing here judges the state of a store; the room diagnosis does.
"""
