"""Runs a plan's statements: in transactions, CONCURRENTLY outside them, or with the vendor's tool.

What runs is decided in `planning`; the online rewrite is in `online`.
"""
