"""Who runs a plan's statements: this program, its concurrent indexes, or the vendor's tool."""
