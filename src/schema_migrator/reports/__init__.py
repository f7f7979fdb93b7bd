"""Results as text and JSON. Nothing here asks a database."""
