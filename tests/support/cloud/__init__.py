"""The clouds' endpoints for identities and tokens, as their own libraries ask them."""
