"""Migrates Temporal's PostgreSQL schemas: locked, transactional, resumable."""

__version__ = "0.1.0"
