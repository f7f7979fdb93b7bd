"""What the tests share, in rooms; no test is in here."""
