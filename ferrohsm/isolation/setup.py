"""What the process needs to make the adapter as its host would have: its section, the configuration."""

from __future__ import annotations

import os
import sys
from typing import Any

from ferrohsm import log
from ferrohsm.config import Config, SlotSection
from ferrohsm.isolation.values import WireError
from ferrohsm.settings import ROWS, TABLES

APART = "FERROHSM_APART"
"""Set in the environment of such a process: if its adapter loads this very module, that starts no others."""

_PLACES = ("path", "data_dir", "data_problem")


def told(section: SlotSection, build: str) -> dict[str, Any]:
    """Return what is sent."""
    config = section.config
    values = {
        name: getattr(getattr(config, row.section) if row.section else config, row.key)
        for name, row in ROWS.items()
    }
    return {
        "build": build,
        "name": section.name,
        "adapter": section.adapter,
        "options": section.options,
        "deadline": section.deadline,
        "concurrency": section.concurrency,
        "values": values,
        "places": {place: getattr(config, place) for place in _PLACES},
        "path": [entry for entry in sys.path if os.path.isabs(entry)],
        "level": next((level for level in log.LEVELS if log.enabled(level)), None),
    }


def heard(setup: Any) -> SlotSection:
    """Return the section, after preparing this process for it."""
    if not isinstance(setup, dict):
        raise WireError("no setup")
    os.environ[APART] = "1"
    sys.path.extend(entry for entry in setup["path"] if entry not in sys.path)
    config = Config(**setup["places"])
    values: dict[str, Any] = setup["values"]
    for table in TABLES:
        own = {ROWS[name].key: value for name, value in values.items() if ROWS[name].section == table.table}
        setattr(config, table.table, table(**own))
    for name, value in values.items():
        if not ROWS[name].section and name not in _PLACES:
            setattr(config, name, value)
    return SlotSection(
        setup["name"],
        setup["adapter"],
        setup["options"],
        config,
        deadline=setup["deadline"],
        concurrency=setup["concurrency"],
    )
