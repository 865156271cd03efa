"""Who takes part."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.speed.peers import formulations, own, packages
from benchmarks.speed.subject import Peer
from kanlens._checks import check_choice

FLOOR = formulations.LINEAR.name
OWN = own.AUTO.name
RECURSION = formulations.EFFICIENT_KAN.name
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        formulations.LINEAR,
        own.AUTO,
        own.COMPILED,
        formulations.EFFICIENT_KAN,
        packages.PYKAN,
        packages.FLASHKAN,
        packages.INKAN,
        packages.INKAN_EAGER,
        formulations.FAST_KAN,
    )
}


def chosen(names: Sequence[str] = ()) -> tuple[Peer, ...]:
    """Return the peers of those names, in the order of tables; all when there is no name.

    nn.Linear and kanlens, which ratios refer to, are always there.
    """
    for name in names:
        check_choice("benchmarks speed", "peers", name, PEERS)
    wanted = {*names, FLOOR, OWN} if names else set(PEERS)
    return tuple(peer for peer in PEERS.values() if peer.name in wanted)
