"""A process that makes keys until it is killed (``python -m ferrohsm.testing.victim``), told what by JSON.

It prints the identities of each pair when its making has returned.
"""

from __future__ import annotations

import json
import sys

from ferrohsm import constants as ck
from ferrohsm.testing.subject import TOKEN, Subject


def main() -> None:
    """Make keys for ever."""
    told = json.loads(sys.stdin.readline())
    name = (ck.CKA_LABEL, told.pop("label").encode())
    running = Subject(**told).start()
    session = running.session()
    while True:
        public, private, _ = running.a_pair(session, TOKEN, name)
        print(json.dumps([public, private]), flush=True)


if __name__ == "__main__":
    main()
