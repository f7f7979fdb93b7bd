"""Talks to Temporal's gRPC frontend: credentials, readiness, namespaces and search attributes.

Nothing here uses PostgreSQL.
"""
