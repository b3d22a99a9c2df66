"""Grants and tokens: what is empty grants nothing or is refused at the call; everything is granted by saying so."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import jwt
import pytest

from trio_progress import issue_token
from trio_progress.cli import exit_codes, main, serve
from trio_progress.cli.exit_codes import CommandError
from trio_progress.server import Auth, Credentials, Grant, SharedSecret, SignedTokens, Trusted
from trio_progress.server.auth.authenticator import AuthUnavailableError, UnauthorizedError

SECRET = "a-secret-of-the-tests-0123456789-0123456789"

OTHERS: list[dict[str, str]] = [{}, {"user": "u2"}, {"user": ""}, {"user": "None"}, {"team": "a"}]
"""Labels of sessions that the user `u1` does not own."""

UNSET: list[dict[str, Any]] = [
    {"labels": {"user": None}},
    {"labels": {"user": ""}},
    {"labels": {"user": "  "}},
    {"labels": {"user": 7}},
    {"labels": {"user": ["u1"]}},
    {"labels": {"user": "u1", "team": None}},
    {"labels": {None: "u1"}},
    {"labels": {"": "u1"}},
    {"labels": None},
    {"labels": "user=u1"},
    {"labels": [("user", "u1")]},
    {"sessions": None},
    {"sessions": b"r-1"},
    {"sessions": {"r-1": True}},
    {"sessions": [None]},
    {"sessions": [""]},
    {"sessions": 7},
    {"verbs": None},
    {"verbs": 7},
    {"everything": None},
    {"everything": 1},
    {"everything": "no"},
    {"everything": True, "sessions": ["r-1"]},
    {"name": 7},
]


@pytest.mark.parametrize("given", UNSET, ids=str)
def test_a_grant_of_an_unset_or_wrong_value_is_refused_at_the_call(given: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Grant(**given)


@pytest.mark.parametrize("given", [{}, {"sessions": []}, {"labels": {}}, {"sessions": set(), "labels": {}}], ids=str)
def test_a_grant_that_names_nothing_grants_nothing(given: dict[str, Any]) -> None:
    grant = Grant(verbs=frozenset({"read", "cancel", "delete"}), **given)
    for labels in OTHERS:
        assert grant.verbs_on("r-1", labels) == ()
    assert not grant.everything


def asked(**given: Any) -> Credentials:
    return Credentials(**{"token": None, "headers": {}, "cookies": {}, "address": "::1", "trusted": True, **given})


@pytest.mark.parametrize("user", [None, "", " ", "\t"], ids=repr)
async def test_a_proxy_that_names_nobody_lets_nobody_in(user: str | None) -> None:
    headers = {} if user is None else {"x-forwarded-user": user}
    with pytest.raises(UnauthorizedError):
        await Auth(Trusted("X-Forwarded-User")).grant(asked(headers=headers))


async def test_who_is_named_by_a_proxy_sees_only_what_is_labelled_so() -> None:
    grant = await Auth(Trusted("X-Forwarded-User")).grant(asked(headers={"x-forwarded-user": "u1"}))
    assert grant.allows("read", "r-1", {"user": "u1"})
    assert not any(grant.allows("read", "r-1", labels) for labels in OTHERS)


@pytest.mark.parametrize("header", ["", " ", None, 7], ids=repr)
def test_a_proxys_header_must_have_a_name(header: Any) -> None:
    with pytest.raises(ValueError, match="header must be the name of a header"):
        Trusted(header)


def test_what_is_to_decide_must_be_able_to() -> None:
    with pytest.raises(TypeError, match="grant must be a function"):
        Trusted("X-User", grant=Grant())  # type: ignore[arg-type]
    for grant in (None, True, {"everything": True}):
        with pytest.raises(TypeError, match="grant must be a Grant"):
            SharedSecret(SECRET, grant=grant)  # type: ignore[arg-type]
    for given in ("", [], [None], [""], False, 7):
        with pytest.raises((ValueError, TypeError)):
            Auth(given)


@pytest.mark.parametrize("answer", [True, "u1", {"everything": True}, ["r-1"], Grant], ids=repr)
async def test_an_authenticator_that_answers_with_no_grant_lets_nobody_in(answer: object) -> None:
    async def decide(credentials: Credentials) -> Any:
        del credentials
        return answer

    with pytest.raises(AuthUnavailableError):
        await Auth(decide).grant(asked())


async def test_an_authenticator_whose_user_is_unset_lets_nobody_in() -> None:
    async def decide(credentials: Credentials) -> Grant:
        return Grant(labels={"user": credentials.cookies.get("user")})  # type: ignore[dict-item]

    with pytest.raises(AuthUnavailableError):
        await Auth(decide).grant(asked())
    grant = await Auth(decide).grant(asked(cookies={"user": "u1"}))
    assert dict(grant.labels) == {"user": "u1"}


# Tokens


async def granted(token: str) -> Grant | None:
    return await SignedTokens(SECRET)(Credentials(token=token, headers={}, cookies={}, address="::1"))


def signed(**tp: Any) -> str:
    """A token with this claim, whoever made it."""
    return jwt.encode({"aud": "trio-progress", "exp": 4e9, "tp": {"verbs": ["read"], **tp}}, SECRET, "HS256")


@pytest.mark.parametrize(
    "given",
    [{}, {"sessions": []}, {"labels": {}}, {"labels": None}, {"sessions": iter(()), "labels": {}}],
    ids=["nothing", "no sessions", "no labels", "labels unset", "an iterator that is at its end"],
)
def test_a_token_that_names_nothing_is_not_made(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"would grant nothing.*everything=True"):
        issue_token(SECRET, ["read", "delete"], **given)


@pytest.mark.parametrize("given", [one for one in UNSET if one != {"labels": None}], ids=str)
def test_a_token_refuses_what_a_grant_refuses(given: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        issue_token(SECRET, **{"sessions": () if given.get("everything") else ["r-1"], **given})


async def test_a_token_is_for_everything_if_it_says_so() -> None:
    grant = await granted(issue_token(SECRET, ["read", "cancel"], everything=True))
    assert grant is not None
    assert grant.everything
    assert grant.verbs_on("anybodys", {"user": "u2"}) == ("read", "cancel")
    one = await granted(issue_token(SECRET, sessions=("r-1", "r-1"), labels=None))
    assert one is not None
    assert (one.everything, one.sessions, dict(one.labels)) == (False, frozenset({"r-1"}), dict[str, str]())


async def test_a_token_of_an_older_version_that_names_nothing_is_refused_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(3):
        assert await granted(signed()) is None
    assert await granted(signed(sessions=[], labels={})) is None
    assert "everything=True" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "tp",
    [
        {"labels": {"user": ""}},
        {"labels": {"user": None}},
        {"everything": None},
        {"everything": "true"},
        {"everything": True, "sessions": ["r-1"]},
        {"everything": False},
    ],
    ids=str,
)
async def test_a_signed_claim_that_a_grant_would_refuse_grants_nothing(tp: dict[str, Any]) -> None:
    assert await granted(signed(**tp)) is None


async def test_the_command_makes_no_token_for_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIO_PROGRESS_SECRET", SECRET)
    assert main(["token"]) == exit_codes.USAGE
    assert "--everything" in capsys.readouterr().err
    assert main(["token", "--everything", "--session", "r-1"]) == exit_codes.USAGE
    capsys.readouterr()
    assert main(["token", "--label", "user="]) == exit_codes.USAGE
    capsys.readouterr()
    assert main(["token", "--everything"]) == exit_codes.OK
    grant = await granted(capsys.readouterr().out.strip())
    assert grant is not None
    assert grant.everything


def test_a_secret_that_is_set_and_empty_is_not_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_PROGRESS_SECRET", " ")
    with pytest.raises(CommandError, match="TRIO_PROGRESS_SECRET is set and empty"):
        serve.secrets_of(Namespace(secret_file=None))
    monkeypatch.delenv("TRIO_PROGRESS_SECRET")
    assert serve.secrets_of(Namespace(secret_file=None)) == []
