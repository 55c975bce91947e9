"""The command `batch`: paint pictures from folders, globs or a manifest, here or on a Ray cluster."""
