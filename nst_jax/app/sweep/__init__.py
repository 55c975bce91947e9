"""The command `sweep`: paint a content and style with many values of one or two settings, as a grid."""
