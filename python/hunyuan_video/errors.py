"""The one exception meant for people."""


class UserError(Exception):
    """Bad input or a failed run: its text is one line that says what is wrong and what to do. The CLI prints it, exit code 1."""
