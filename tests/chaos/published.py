"""What publishers know."""

import dataclasses

COMMITTED, UNKNOWN, REFUSED = "committed", "unknown", "refused"


@dataclasses.dataclass
class Published:
    """An event, as its publisher knows it. begun: before COMMIT; done: when it was answered."""
    seq: int
    begun: float
    done: float
    size: int
    outcome: str = COMMITTED
