"""PostgreSQL servers of every kind, fresh databases in them, and what stands between a client and a server."""
