"""The conformance tests of adapters: ``from ferrohsm.testing.conformance import *`` in a plugin's own tests.

They use the fixtures of `ferrohsm.testing.adapter`.
"""

from ferrohsm.testing.conformance.test_capabilities import *  # noqa: F403
from ferrohsm.testing.conformance.test_crash import *  # noqa: F403
from ferrohsm.testing.conformance.test_errors import *  # noqa: F403
from ferrohsm.testing.conformance.test_lifecycle import *  # noqa: F403
from ferrohsm.testing.conformance.test_objects import *  # noqa: F403
from ferrohsm.testing.conformance.test_threads import *  # noqa: F403
from ferrohsm.testing.conformance.test_visibility import *  # noqa: F403
