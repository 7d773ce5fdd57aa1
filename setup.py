"""Let tools that know no pyproject.toml install the package; everything is declared there."""

from setuptools import setup

setup()
