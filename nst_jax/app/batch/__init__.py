"""The command `batch`: many pictures from folders, globs or manifests, locally or on a Ray cluster."""
