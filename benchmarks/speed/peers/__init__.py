"""Who takes part: one file for each."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.speed.peers import (
    efficient_kan,
    fast_kan,
    flash_kan,
    in_kan,
    linear,
    own,
    pykan,
)
from benchmarks.speed.subject import Peer
from kanlens.checks import check_choice

FLOOR = linear.PEER.name
OWN = own.AUTO.name
RECURSION = efficient_kan.PEER.name
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        linear.PEER,
        own.AUTO,
        *own.PATHS,
        own.COMPILED,
        efficient_kan.PEER,
        pykan.PEER,
        flash_kan.PEER,
        in_kan.COMPILED,
        in_kan.EAGER,
        fast_kan.PEER,
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
