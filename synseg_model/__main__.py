"""Run the command line: `python -m synseg_model` is `synseg`."""

import sys

from synseg_model.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
