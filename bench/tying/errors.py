"""What the user can get wrong."""


class BadInput(ValueError):
    """One line that says what was wrong, what is allowed and how to fix it; the command line exits with 2."""
