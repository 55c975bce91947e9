"""The command `batch`: paint many pictures, in this process or on a Ray cluster.

The pictures are named on the command line (as files, folders or patterns such as `*.jpg`), or in a
manifest: a table with a row for each picture to paint.
"""
