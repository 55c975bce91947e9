"""The command `web`: a page in the browser on which one paints."""
