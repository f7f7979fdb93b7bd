"""The only room that talks to libpq: parameters, connecting with patience, transactions, what errors mean."""
