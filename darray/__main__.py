"""The program ``darray``, as ``python -m darray``."""

import sys

from darray.command.program import main

if __name__ == "__main__":
    sys.exit(main())
