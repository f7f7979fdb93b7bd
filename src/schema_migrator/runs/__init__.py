"""What a run holds while it changes a store: the advisory lock, guarded transactions, the records of versions."""
