"""`sb3-plastic` within the process of the tests: a process of its own takes seconds to import."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from sb3_plastic import cli


def answer(arguments, code=0):
    """
    What a command prints that only answers: with its help, or with an error.

    :param arguments: of ``sb3-plastic``
    :param code: with which it has to end
    """
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed), mock.patch.object(sys, "argv", ["sb3-plastic"]):
        try:
            ended = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse's
            ended = end.code or 0
    assert ended == code, printed.getvalue()
    return printed.getvalue()
