"""The attack list: what is tried, as data, and the answer to it. SECURITY.md's list is written from it."""

from collections.abc import Mapping, Sequence

from tests.attacks.addresses import ADDRESSES, PORTS
from tests.attacks.attack import Attack
from tests.attacks.files import FILES
from tests.attacks.hosts import HOPS, HOSTS, NAMES

ALL: Mapping[str, Sequence[Attack]] = {
    "Addresses": [*ADDRESSES, *PORTS],
    "Names": NAMES,
    "Redirects": HOPS,
    "Hosts": HOSTS,
    "Files": FILES,
}
