"""How hypothesis draws: known to all tests through tests/conftest.py.

Without a deadline, for a busy machine is no fault of ours; the same examples each time in
CI, and elsewhere with what is needed to repeat a failure.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("here", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
