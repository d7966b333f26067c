"""What a reviewer would object to before a hierarchy is made.

Owns the order in which it is said. What is looked at stands in `review_structure` (lifetimes, calendar, algorithms,
places) and in `review_profiles` (what is vouched for, and by whom). A file that cannot be a hierarchy at all never
comes this far: `hierarchy` and `declaration` refuse it.
"""

from __future__ import annotations

from typing import Final

from cassiopeia.ceremony.objections import Objection, Severity
from cassiopeia.ceremony.planning import Plan
from cassiopeia.ceremony.review_profiles import review_profiles
from cassiopeia.ceremony.review_structure import review_structure

_ORDER: Final = tuple(Severity)


def review(plan: Plan) -> tuple[Objection, ...]:
    """Every objection to what the ceremony would make, the gravest first; an error means: do not hold it."""
    found = [*review_structure(plan), *review_profiles(plan)]
    return tuple(sorted(found, key=lambda each: _ORDER.index(each.severity)))
