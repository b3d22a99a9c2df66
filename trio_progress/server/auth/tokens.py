"""Tokens: one shared secret, or signed ones that say themselves what they grant (JWT, RFC 7519, HS256).

A token never stands in an address or a log. Secrets are compared in constant time. Of a signed token the
signature, the algorithm, the audience and the expiry are checked; one without an expiry is none. A token for all
sessions says so (`everything`); one that names neither sessions nor labels grants nothing and is not valid. (Before
0.1.0 it granted everything, which made an empty list of ids a token for everybody's sessions.)
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, final

import msgspec
import trio

from ...protocol.messages import Verb
from ...state import checks
from ...state.limits import Limits
from ...telemetry.logs import Throttle, log_event
from .grants import ALL, Credentials, Grant

AUDIENCE: Final = "trio-progress"
ALGORITHM: Final = "HS256"

LONGEST_TOKEN: Final = 8192
"""Characters; what is longer is not looked at."""

SHORTEST_SECRET: Final = 32
"""Bytes of a secret: as many as the hash has (RFC 7518, section 3.2)."""


class _Claim(msgspec.Struct, forbid_unknown_fields=True):
    verbs: Annotated[list[Verb], msgspec.Meta(min_length=1)]
    sessions: list[str] = []
    labels: dict[str, str] = {}
    everything: bool = False


class _Claims(msgspec.Struct):
    exp: float
    tp: _Claim
    sub: str | None = None


def checked_secret(secret: object) -> str:
    """The secret, if it is long enough.

    Raises:
        ValueError, TypeError: It is not; the message does not repeat it.
    """
    if not isinstance(secret, str):
        raise TypeError(f"a secret must be a str, not a {type(secret).__name__}")
    if len(secret.encode()) < SHORTEST_SECRET or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ValueError(
            f"a secret must be at least {SHORTEST_SECRET} visible ASCII characters, "
            "such as `trio-progress token --new-secret` prints"
        )
    return secret


def new_secret() -> str:
    """A secret that nobody has."""
    return secrets.token_urlsafe(SHORTEST_SECRET)


def issue_token(
    secret: str,
    verbs: Sequence[Verb] = ("read",),
    sessions: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    ttl: float = 900,
    *,
    everything: bool = False,
    name: str | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> str:
    """A signed token that grants `verbs` on some sessions for a while.

    It is for the sessions that are named and for those that have all of the labels; or, with `everything=True`, for
    all sessions. A token that would grant nothing is not made. Needs the extra `server`. Has no checkpoint.

    Args:
        secret: One of those that the server's `SignedTokens` was given; at least 32 characters.
        verbs: Of `read`, `cancel` and `delete`.
        sessions: Ids.
        labels: Labels that a session must have, all of them; no value may be empty.
        ttl: Seconds that the token is good for, above 0.
        everything: The token is for all sessions; `sessions` and `labels` must then be empty.
        name: Who it is for.
        wall_clock: Gives the seconds since 1970.

    Raises:
        ValueError, TypeError: A value is out of range, or nothing would be granted.
    """
    import jwt

    given: dict[str, Any] = {"verbs": verbs, "sessions": sessions, "labels": {} if labels is None else labels}
    grant = Grant(**given, everything=everything)  # Which checks them, whatever they are.
    claim: dict[str, Any] = {
        "verbs": sorted(grant.verbs),
        "sessions": sorted(grant.sessions),
        "labels": checks.labels(dict(grant.labels), Limits()),
    }
    if everything:
        claim["everything"] = True
    elif not (grant.sessions or grant.labels):
        raise ValueError(
            "the token would grant nothing: sessions and labels are empty; name some, "
            "or say everything=True for a token that is for all sessions"
        )
    now = wall_clock()
    claims: dict[str, Any] = {
        "aud": AUDIENCE,
        "iat": int(now),
        "exp": now + checks.number("ttl", ttl, above=0),
        "tp": claim,
    }
    if name is not None:
        claims["sub"] = checks.name("name", name)
    token = jwt.encode(claims, checked_secret(secret), algorithm=ALGORITHM)
    if len(token) > LONGEST_TOKEN:
        raise ValueError(
            f"the token would have {len(token)} characters; {LONGEST_TOKEN} are allowed: name fewer sessions"
        )
    return token


@final
class SharedSecret:
    """Lets in whoever has the secret; two at once while it is changed.

    Args:
        secrets: One secret or more, each of at least 32 visible ASCII characters.
        grant: What they grant: everything, unless given.
    """

    wants_token = True

    def __init__(self, *secrets: str, grant: Grant = ALL) -> None:
        if not secrets:
            raise ValueError("SharedSecret needs a secret")
        if not isinstance(grant, Grant):
            raise TypeError(f"grant must be a Grant, such as Grant(labels={{'user': 'u1'}}), not {grant!r:.200}")
        self._secrets = [checked_secret(secret).encode() for secret in secrets]
        self._grant = grant

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"<SharedSecret: {len(self._secrets)}>"

    async def __call__(self, credentials: Credentials) -> Grant | None:
        """The grant, if the token is one of the secrets."""
        await trio.lowlevel.checkpoint()
        token = credentials.token
        if token is None or len(token) > LONGEST_TOKEN:
            return None
        given = token.encode(errors="replace")
        # All are compared, so that it does not show which one it was.
        found = [hmac.compare_digest(given, secret) for secret in self._secrets]
        return self._grant if any(found) else None


@final
class SignedTokens:
    """Lets in whoever has a token of `issue_token()`, or another JWT with these claims (see PROTOCOL.md).

    Args:
        secrets: What tokens may be signed with; more than one while they are changed.
        wall_clock: Gives the seconds since 1970, to know what has expired.
    """

    wants_token = True

    def __init__(self, *secrets: str, wall_clock: Callable[[], float] = time.time) -> None:
        import jwt

        if not secrets:
            raise ValueError("SignedTokens needs a secret")
        self._jwt = jwt
        self._secrets = [checked_secret(secret) for secret in secrets]
        self._wall_clock = wall_clock
        self._throttle = Throttle()

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"<SignedTokens: {len(self._secrets)}>"

    async def __call__(self, credentials: Credentials) -> Grant | None:
        """What the token grants; a grant that has expired where it is an old one of ours."""
        await trio.lowlevel.checkpoint()
        token = credentials.token
        if token is None or len(token) > LONGEST_TOKEN or token.count(".") != 2:
            return None
        for secret in self._secrets:
            grant = self._checked(token, secret)
            if grant is not None:
                return grant
        return None

    def _checked(self, token: str, secret: str) -> Grant | None:
        try:
            decoded = self._jwt.decode(
                token,
                secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                # Expiry is checked by our own clock, and reported apart from the rest.
                options={"require": ["exp", "aud"], "verify_exp": False, "verify_iat": False, "verify_nbf": True},
            )
            claims = msgspec.convert(decoded, _Claims)
            tp = claims.tp
            if not (tp.everything or tp.sessions or tp.labels):
                self._refuse_unrestricted()
                return None
            return Grant(
                verbs=frozenset(tp.verbs),
                sessions=frozenset(tp.sessions),
                labels=tp.labels,
                everything=tp.everything,
                expires_at=claims.exp,
                name=claims.sub,
            )
        except (self._jwt.PyJWTError, msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError):
            return None

    def _refuse_unrestricted(self) -> None:
        """Logs, now and then, why a token that was issued in good faith by an older version is not valid."""
        log_event(
            logging.WARNING,
            "token_grants_nothing",
            "a signed token names no sessions and no labels, so it grants nothing and is refused: "
            "issue one with everything=True (`trio-progress token --everything`) for all sessions",
            throttle=self._throttle,
        )
