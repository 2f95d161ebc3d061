"""Who somebody is to the server, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from explorer.errors import AccessError

Role = Literal["viewer", "vetter", "owner"]
#: By what they may do, each what those before it may, too; and in words.
ROLES: dict[Role, str] = {
    "viewer": "looks at everything, and decides nothing",
    "vetter": "grades, tags, notes, keeps selections and places, too",
    "owner": "starts runs, makes campaigns and boundaries, and everything else",
}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who was let in.

    Attributes
    ----------
    name
        As the ledger names them.
    """

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether they may do what needs `role`."""
        order = list(ROLES)
        return order.index(self.role) >= order.index(role)

    def must(self, role: Role) -> None:
        """Refuse who may not do what needs `role`.

        Raises
        ------
        AccessError
            They may not.
        """
        if not self.may(role):
            raise AccessError(f"{self.name} is {article(self.role)} here and may not do that; it takes {article(role)}")


def article(role: Role) -> str:
    """a viewer, an owner."""
    return f"{'an' if role[0] in 'aeiou' else 'a'} {role}"


#: Whoever came by the URL that the server printed, where there are no accounts.
LOCAL = Person("local", "owner")
#: The server itself, where it decides something of its own accord (the next batch of a campaign, say).
SERVER = Person("voorwerp", "owner")
#: Whoever was not let in.
NOBODY = Person("nobody", "viewer")
