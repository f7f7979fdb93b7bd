"""The online rewrite of a large table: shadow table, change log, backfill, replay, proof and cutover.

Which steps can run online is decided in `planning`; leftovers are found in `catalog`.
"""
