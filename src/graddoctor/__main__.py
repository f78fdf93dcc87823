"""``python -m graddoctor``."""

import sys

from graddoctor.cli import main

if __name__ == "__main__":
    sys.exit(main())
