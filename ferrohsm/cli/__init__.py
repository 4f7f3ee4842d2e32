"""The ``ferrohsm`` command: tokens, keys and objects, and what is needed around the module.

Exit codes: 0 done; 1 refused, failed, or ``doctor`` found something broken; 2 wrong usage; 3 no such
token or object; 4 wrong or locked PIN; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors are one line on stderr."""
    from ferrohsm.cli import terminal
    from ferrohsm.cli.parser import build

    arguments = build().parse_args(argv)
    if getattr(arguments, "config", None):
        os.environ["FERROHSM_CONF"] = os.path.abspath(arguments.config)
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return int(code or 0)
    except KeyboardInterrupt:
        print("ferrohsm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader had enough; nothing more is to be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        if os.environ.get("FERROHSM_DEBUG"):
            raise
        return terminal.report(error, as_json=getattr(arguments, "json", False))
