"""Who may talk to whom: the router's rules.

Strict is a site's usual policy: SSH to the heads, the schedulers' ports between heads and nodes,
and nothing else.  Open lets everybody inside the cluster reach any port there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .site import Site
from .topology import HEADS, HOSTS, LOGIN_ADDRESS, LOGIN_TURNS, NODES

__all__ = ["Firewall"]

SSH = "{ 22, 2200-2209 }"
SCHEDULERS = "{ 6444, 6445, 6817, 6818, 6819, 60001-60100 }"


class Firewall:
    """The rules in force; `cluster.firewall`."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def strict(self, *, reject: bool = False) -> None:
        """What is not allowed vanishes, or with `reject` is refused at once.  No cut remains."""
        self._load("", reject=reject)

    def open(self) -> None:
        """As strict, but any TCP inside the cluster passes."""
        self._load("ip saddr @cluster ip daddr @cluster accept", reject=False)

    def cut(self, one: str, other: str) -> None:
        """Nothing passes between two hosts any more, connections that are open included."""
        a, b = HOSTS[one].address, HOSTS[other].address
        self._site.run_nft(
            f"add rule inet site cuts ip saddr {a} ip daddr {b} drop\n"
            f"add rule inet site cuts ip saddr {b} ip daddr {a} drop\n"
        )

    def heal(self) -> None:
        """Undoes every cut."""
        self._site.run_nft("flush chain inet site cuts\n")

    def turn_to(self, host: str) -> None:
        """The next login through the alias ends at that head; those after it, in turns again."""
        later = [name for name in LOGIN_TURNS if name != host]
        self._site.run_nft(
            f"flush chain inet site login_alias\n"
            f"add rule inet site login_alias {_alias_rule([host, *later])}\n"
        )

    def _load(self, extra: str, *, reject: bool) -> None:
        deny = "meta l4proto tcp reject with tcp reset" if reject else ""
        heads, nodes = _addresses(HEADS), _addresses(NODES)
        laptop, remote, gateway = (HOSTS[name].address for name in ("laptop", "remote", "gateway"))
        self._site.run_nft(f"""
flush ruleset
table inet site {{
    set cluster {{ type ipv4_addr; elements = {{ {heads}, {nodes} }} }}
    set heads {{ type ipv4_addr; elements = {{ {heads} }} }}
    set nodes {{ type ipv4_addr; elements = {{ {nodes} }} }}
    chain login_alias {{
        type nat hook prerouting priority dstnat;
        {_alias_rule(LOGIN_TURNS)}
    }}
    chain cuts {{
    }}
    chain passing {{
        type filter hook forward priority filter; policy drop;
        jump cuts
        ct state established,related accept
        icmp type echo-request accept
        {extra}
        ip saddr @nodes ip daddr @nodes accept
        ip saddr @cluster ip daddr @cluster tcp dport 22 accept
        ip saddr @cluster ip daddr @cluster tcp dport {SCHEDULERS} accept
        ip saddr {{ {laptop}, {gateway} }} ip daddr @heads tcp dport {SSH} accept
        ip saddr @nodes ip daddr @heads tcp dport {SSH} accept
        ip saddr {remote} ip daddr {gateway} tcp dport 22 accept
        {deny}
    }}
}}
""")


def _alias_rule(heads: Sequence[str]) -> str:
    """Leads to each in turn; the count begins with the rule."""
    turns = ", ".join(f"{turn}: {HOSTS[name].address}" for turn, name in enumerate(heads))
    next_head = f"numgen inc mod {len(heads)} map {{ {turns} }}"
    return f"ip daddr {LOGIN_ADDRESS} tcp dport 22 dnat ip to {next_head}"


def _addresses(names: Iterable[str]) -> str:
    return ", ".join(HOSTS[name].address for name in names)
