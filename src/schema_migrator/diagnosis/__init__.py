"""Derives the state of a store from the catalogs and a rehearsal, predicts pending steps, and writes repair SQL.

Nothing here plans a run or changes a store.
"""
