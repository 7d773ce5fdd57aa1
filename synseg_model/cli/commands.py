"""The commands of `synseg`: what the module of a command offers, and where such modules are found."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Protocol

__all__ = ["Command", "find_commands"]

GROUP = "synseg.commands"  # the entry points that other packages declare in their pyproject.toml

_OWN = ("segment", "live", "export", "build_engine", "info")
# Entry points are read from installed metadata. A source tree has none, and neither has what colcon installs: there the
# project's command outside this package is found by its name.
_WITHOUT_METADATA = {"bag": "synseg_ros.bags.command"}


class Command(Protocol):
    """Offer one command of `synseg`; a module is such an object.

    The module imports little more than the standard library, and `run` imports the rest: `synseg --help` loads the
    modules of all commands. A package adds a command with an entry point in the group `synseg.commands`, which is named
    as the command and points to the module:

        [project.entry-points."synseg.commands"]
        bag = "synseg_ros.bags.command"

    Attributes:
        NAME: what users type after `synseg`.
        HELP: one line for the list of commands.
    """

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments, the description and the examples to the command's parser."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the command.

        Args:
            arguments: the parsed command line.

        Returns:
            The exit status: 0 when all is done, 1 when some inputs could not be read.

        Raises:
            ValueError, OSError: for what the user can mend; `synseg` prints the message and exits with 2.
        """


def find_commands(complain: Callable[[str], object]) -> Iterator[Command]:
    """Find all commands: those of this package first, then those of installed packages, in alphabetical order.

    Args:
        complain: called with a message for each command that cannot be loaded. The others are found all the same.
    """
    for name in _OWN:
        yield import_module(f"synseg_model.cli.{name}")
    found = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    for name, module in _WITHOUT_METADATA.items():
        if name not in found and _is_there(module):
            found[name] = module
    for name, module in sorted(found.items()):
        try:
            command = import_module(module)
            if name != command.NAME:
                raise ValueError(f"its module has the NAME {command.NAME!r}")
        except Exception as error:  # a broken package must not stop the other commands
            complain(f"the command {name!r} of {module} cannot be used: {str(error) or type(error).__name__}")
        else:
            yield command


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package around it is missing
        return False
