"""Why a request is not answered with what it asked for, where HTTP has a number of its own for it."""

from __future__ import annotations

from tidemill.core.errors import Conflict, OperatorError, UserError

__all__ = [
    "RETRY_AFTER_SECONDS",
    "AddressTooLong",
    "Busy",
    "Forbidden",
    "HeadersTooLarge",
    "KeyReused",
    "NotAllowed",
    "NotTaken",
    "StillRunning",
    "Stranger",
    "TooLarge",
    "TooOften",
    "TooSlow",
    "WrongSignature",
    "WrongType",
]

RETRY_AFTER_SECONDS = 1
"""When who was told to come again may do so: a bucket has room for a request by then, and the next commit is over."""


class NotAllowed(UserError):
    """Whoever asks did not say who they are, or may not do this."""


class WrongSignature(UserError):
    """A webhook that is not signed by whom it says, or was signed too long ago."""


class Forbidden(UserError):
    """Whoever asks is known, and may not do this."""


class Stranger(UserError):
    """The request comes by way of a name or a page that may not ask here."""


class TooLarge(UserError):
    """A request carries more than is taken at once."""


class TooOften(UserError):
    """A key asks more often than keys may."""


class HeadersTooLarge(UserError):
    """A request has too many headers, or too long ones."""


class AddressTooLong(UserError):
    """The address of a request is too long."""


class WrongType(UserError):
    """A body of a type or encoding that is not read here."""


class TooSlow(UserError):
    """A body did not come in time."""


class KeyReused(UserError):
    """An idempotency key came again with another body."""


class NotTaken(UserError):
    """A batch that is to be taken whole or not at all has events that cannot be taken."""


class StillRunning(Conflict):
    """The request of an idempotency key is still being worked on."""


class Busy(OperatorError):
    """More came in than could be made durable: the sender is to come again."""


class Left(Exception):
    """The sender went away before its request was complete: there is nobody to answer."""
