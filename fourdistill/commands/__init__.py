"""The commands of the command line, one module each: `EXAMPLES` for its help, and `run`.

Slow imports happen inside `run`. A command raises `InputError`, which `cli` reports. Paths are `readable=False`, which
disables typer's check: an unreadable file is then reported in one line like other errors, not in typer's box.
"""
