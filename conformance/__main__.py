"""python -m infonce_ref.conformance: the command, where it isn't installed."""

import sys

from infonce_ref.conformance.cli import main

if __name__ == "__main__":
    sys.exit(main())
