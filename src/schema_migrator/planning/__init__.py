"""What is to be done, as values: the plan, what can go online, what forbids it. Nothing here changes a store."""
