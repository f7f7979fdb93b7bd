"""How long steps will take and what they lock: trials on copies of some rows, and what follows from them."""
