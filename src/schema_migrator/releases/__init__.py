"""The vendor's files: folders to steps, SQL text to statements. Nothing here knows a database or a setting."""
