"""The command line: heavy imports are inside the functions of the commands."""
