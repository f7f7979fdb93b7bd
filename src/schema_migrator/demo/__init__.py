"""A PostgreSQL of its own and the scenario that `demo` plays on it."""
