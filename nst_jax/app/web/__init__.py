"""The command `web`: a local server, and its page in the browser on which people paint pictures."""
