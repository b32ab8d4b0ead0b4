"""The one exception that means "what you gave me is wrong", as opposed to a fault of the program."""


class InputError(Exception):
    """Bad input: `str(error)` is one line naming the file, the field and what was expected; exit status 2."""
