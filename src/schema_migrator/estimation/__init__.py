"""How long a plan's steps will take and lock tables: trials on copies of some rows, extrapolated to all rows.

Nothing here changes a store; a trial's transaction rolls back.
"""
