"""The command lines: schema-migrator, the vendor's temporal-sql-tool, and how a process begins and ends."""
