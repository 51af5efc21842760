"""The exceptions meant for people: each text is one line that says what is wrong and what to do."""


class UserError(Exception):
    """Bad input or a failed run. The command line prints the text and exits with 1."""


class ArgumentError(UserError, ValueError):
    """An argument with a wrong value: names the argument, the value and the nearest one that works."""


class Notice(UserWarning):
    """What a user should know although the work goes on. The command line prints the text."""


class PrecisionWarning(Notice):
    """The models run in another dtype than was asked for. The command line prints the text."""
