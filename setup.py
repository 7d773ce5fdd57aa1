"""Say where setuptools builds, and take the messages along; everything else is declared in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithMessages(build_py):
    """Copy msg/ into synseg_ros.interfaces: `synseg bag` writes these messages where no ROS is installed."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # they are found in the source tree
            return
        folder = Path(self.build_lib, "synseg_ros", "interfaces", "msg")
        self.mkpath(str(folder))
        for path in sorted(Path("msg").glob("*.msg")):
            self.copy_file(str(path), str(folder / path.name))


# build/ is colcon's too: a folder of our own in it, so that neither finds what the other left.
setup(cmdclass={"build_py": BuildWithMessages}, options={"build": {"build_base": "build/setuptools"}})
