"""What each command does, from settings to a result: a module per command, and the stages that they share.

Nothing here parses flags or prints; `cli` and `reports` do.
"""
