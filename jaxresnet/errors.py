"""What a user can put right is told apart from what is a fault of the program."""


class UserError(Exception):
    """Bad input: one message that names the value, what is accepted, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class TrainingFailed(Exception):
    """A training diverged, or several did; the others of the run are finished and reported."""


class CheckFailed(Exception):
    """A comparison came out beyond its bound; the report names it. Exit status 1."""


def first_line(error: Exception) -> str:
    """Of its message; its type's name if it has none."""
    return (str(error) or type(error).__name__).partition("\n")[0]
