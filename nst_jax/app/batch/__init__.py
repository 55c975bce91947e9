"""The command `batch`: many pictures by folders, globs or manifests, here or on a Ray cluster."""
