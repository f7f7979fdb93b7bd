"""The online rewrite of a large table: shadow table, change log, backfill, replay, proof and cutover."""
