"""The command `instant`: pictures painted by a single pass of a network."""
