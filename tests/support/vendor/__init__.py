"""The vendor's own tool, stopped wherever a test likes."""
