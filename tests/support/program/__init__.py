"""Our program: how tests run it, put its stores into states, and compare what it says and leaves."""
