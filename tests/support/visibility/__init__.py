"""The table executions_visibility under load: who writes it, what its rows have to be, and rewrites of it."""
