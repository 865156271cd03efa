"""Who takes part."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.speed.peers import formulations, own, packages
from benchmarks.speed.subject import Peer
from kanlens.checks import check_choice

FLOOR = formulations.LINEAR.name
OWN = own.AUTO.name
RECURSION = formulations.EFFICIENT_KAN.name
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        formulations.LINEAR,
        own.AUTO,
        *own.PATHS,
        own.COMPILED,
        formulations.EFFICIENT_KAN,
        packages.PYKAN,
        packages.FLASHKAN,
        packages.INKAN,
        packages.INKAN_EAGER,
        formulations.FAST_KAN,
    )
}


def chosen(names: Sequence[str] = (), *, paths: bool = False) -> tuple[Peer, ...]:
    """Return the peers of those names, in the order of tables; all when there is no name.

    Parameters
    ----------
    names : sequence of str
        Keys of ``PEERS``; nn.Linear and kanlens, which ratios refer to, are always there.
    paths : bool
        Add kanlens with each of its ways of computing.

    Raises
    ------
    InvalidValueError
        If a name is none of ``PEERS``.

    Examples
    --------
    >>> [peer.name for peer in chosen(["pykan"])]
    ['nn.Linear', 'kanlens', 'pykan']
    """
    for name in names:
        check_choice("benchmarks speed", "peers", name, PEERS)
    wanted = {*names, FLOOR, OWN}
    return tuple(
        peer
        for peer in PEERS.values()
        if peer.name in wanted or (paths if peer.optional else not names)
    )
