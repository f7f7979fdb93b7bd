"""Temporal's gRPC frontend: credentials, readiness, namespaces and search attributes. No PostgreSQL."""
