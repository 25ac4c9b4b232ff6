"""A program of its own that runs a command in a sandbox and watches which files it uses."""
