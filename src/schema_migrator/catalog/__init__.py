"""What PostgreSQL's catalogs say of a store: facts, snapshots, owners, leftovers. No judgement on it."""
