"""The vendor's release files: reads folders into steps and splits SQL text into statements.

Nothing here knows a database or a setting.
"""
