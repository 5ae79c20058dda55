"""What the judge allows."""

ALLOWANCE = 1.0     # a fault is over so long after everything has answered again: two markers
CLOCK_SLACK = 1.0   # what a client that reads may be behind
SLOW_SLACK = 15.0   # what a slow one may be behind
LATE = 2.5          # seconds from commit to client that need an excuse
REPLAY = 10.0       # a stream may be as long on its way to the head: what comes meanwhile comes later
WAIT = 2.0          # seconds without an answer of the broker that need an excuse
ENTRY_OVERHEAD = 512   # the most that the log may count for an event beside its bytes
LOG_SLACK = 2.0     # events begun so long apart may stand in the log the other way round
DURABLE_SLACK = 5.0    # so long may a durable one take, since publishers wait for each other
GRACE = 1.0         # seconds until a channel that was unsubscribed is quiet
