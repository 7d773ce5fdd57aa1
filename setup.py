"""Say where setuptools builds; everything else is declared in pyproject.toml."""

from setuptools import setup

# build/ is colcon's too: a folder of our own in it, so that neither finds what the other left.
setup(options={"build": {"build_base": "build/setuptools"}})
