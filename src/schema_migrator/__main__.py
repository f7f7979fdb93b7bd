"""`python -m schema_migrator` is the command schema-migrator."""

from schema_migrator.start import main

main()
