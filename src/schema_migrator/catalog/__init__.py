"""Reads PostgreSQL's catalogs about a store: facts, snapshots, blockers, owners, leftovers and the seed row.

What they mean for the store's state is not decided here, but in the room diagnosis.
"""
