"""The only room that uses libpq: connection parameters, connecting with retries, transactions, error translation.

Nothing here knows Temporal's tables or the steps of a release.
"""
