"""Gets a token for a database from a cloud's own library, one for every connection.

Nothing here knows a cloud's protocol: metadata, token endpoints and signatures are the libraries' work.
"""
