"""What each command does, from settings to a result. Nothing here prints."""
