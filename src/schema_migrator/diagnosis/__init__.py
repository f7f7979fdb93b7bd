"""What the catalogs' answers mean: the state of a store, by comparison with a rehearsal, and SQL that repairs it."""
