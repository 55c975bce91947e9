"""The options of the commands, in the groups in which `--help` lists them."""
