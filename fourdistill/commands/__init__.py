"""The commands of the command line, one module each: `EXAMPLES` for its help, and `run`.

What takes long to import is imported when a command runs. A command raises `InputError` and leaves the rest to `cli`.
Paths are `readable=False`, which means unchecked: a file that may not be read is then one line as well, and not a box.
"""
