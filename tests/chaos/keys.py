"""What a topic is called in a run: its name, or its tenant, a slash and its name. Events have it as
the first word of their data, so an event that reached a stream of another tenant shows."""

BROADCAST = "*"


def key_of(tenant, name):
    return f"{tenant}/{name}" if tenant else name


def tenant_of(key):
    return key.rpartition("/")[0]


def name_of(key):
    return key.rpartition("/")[2]


def is_covered(name, names):
    """By one of these names and patterns. Nobody has to ask for broadcasts, and no pattern does."""
    return name != BROADCAST and any(name == one or one.endswith("*") and name.startswith(one[:-1])
                                     for one in names)
