"""`serve`: serves the sessions of a store over one port."""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import logging
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import exit_codes, output, parser, store_location
from .exit_codes import CommandError

if TYPE_CHECKING:
    from .store_location import StoreLocation

PORT: Final = 8765

SECRET: Final = "TRIO_PROGRESS_SECRET"  # noqa: S105 - the name of a variable
"""The variable that holds the server's secrets, with spaces between: all are accepted, the first one signs."""

TOKEN: Final = "TRIO_PROGRESS_TOKEN"  # noqa: S105 - the name of a variable

SETTINGS: Final = (
    "host", "base_path", "origins", "hosts", "trusted_proxies", "admin_port", "admin_host", "keepalive",
    "drain_timeout",
)  # fmt: skip
"""The options that are settings of the server by the same name."""

_DESCRIPTION: Final = f"""\
Serves the sessions of a store over one port: a page, WebSockets, server-sent events, and JSON.

Only this machine can reach it, unless --host says otherwise; that needs a secret, in {SECRET} or a file. (While it
is changed, give both secrets with a space between: the first one signs.) The secret allows everything;
`trio-progress token` makes tokens that allow less. After Ctrl-C or SIGTERM, clients still get what ends within
--drain-timeout.
"""

_EPILOG: Final = """\
examples:
  trio-progress serve
  trio-progress serve --store sqlite:progress.db --port 0
  trio-progress serve --host 0.0.0.0 --secret-file /run/secrets/progress --certificate cert.pem --key key.pem
  trio-progress serve --base-path /progress --hosts progress.example.org --trusted-proxies 10.0.0.0/8

exit codes:
  2 wrong use, or the port is taken; 4 the store cannot be used; 130 Ctrl-C; 143 SIGTERM
"""


def add(commands: parser.Commands) -> None:
    """Adds `serve`."""
    serving = parser.command(
        commands, "serve", serve, summary="serve sessions over a port", description=_DESCRIPTION, epilog=_EPILOG
    )
    serving.add_argument(
        "--port", type=port, default=PORT, metavar="N", help=f"the port; 0 for a free one (default {PORT})"
    )
    serving.add_argument(
        "--host", default="127.0.0.1", help="the address to bind (default 127.0.0.1: this machine only)"
    )
    serving.add_argument("--secret-file", metavar="FILE", help=f"a file with the secret (default ${SECRET})")
    serving.add_argument("--certificate", metavar="FILE", help="the certificate for TLS; needs --key")
    serving.add_argument("--key", metavar="FILE", help="the certificate's private key")
    serving.add_argument("--base-path", default="/", metavar="PATH", help="the prefix of all paths, behind a proxy")
    for name, meta, summary in (
        ("origins", "ORIGIN", "other origins whose pages may read sessions"),
        ("hosts", "HOST", "host names that clients use for this server"),
        ("trusted-proxies", "NETWORK", "addresses or networks whose X-Forwarded-For is trusted"),
    ):
        serving.add_argument(f"--{name}", nargs="+", default=[], metavar=meta, help=summary)
    serving.add_argument(
        "--admin-port", type=port, metavar="N", help="a separate port for probes and metrics; 0 for a free one"
    )
    serving.add_argument(
        "--admin-host",
        default="127.0.0.1",
        metavar="HOST",
        help="the address of the admin port (default 127.0.0.1: this machine only)",
    )
    serving.add_argument(
        "--keepalive", type=parser.seconds, default=20.0, metavar="SECONDS", help="time between pings (default 20)"
    )
    serving.add_argument(
        "--drain-timeout",
        type=parser.seconds,
        metavar="SECONDS",
        help="how long shutdown waits for clients to get what has ended (default 6)",
    )
    serving.add_argument(
        "--lost-after",
        type=parser.seconds,
        default=30.0,
        metavar="SECONDS",
        help="time without a heartbeat, after its lease, until a session counts as lost (default 30)",
    )
    serving.add_argument(
        "--wait-for-store",
        action="store_true",
        help="serve although the store does not answer yet: /readyz says 503 until it does",
    )
    parser.store_option(serving)
    # Its log is read later: that the store is back is said as well as that it was gone, and who asked for a cancel.
    serving.set_defaults(log_level=logging.INFO)


def port(text: str) -> int:
    """Checks a port, for argparse."""
    if not text.isdecimal() or not text.isascii() or len(text) > 5 or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a whole number from 0 to 65535, not {text!r:.200}")
    return int(text)


def server() -> Any:
    """The package `trio_progress.server`; a `CommandError` names the extra where that is not installed."""
    try:
        return importlib.import_module("trio_progress.server")
    except ModuleNotFoundError as error:
        raise CommandError(exit_codes.USAGE, str(error)) from None


def secrets_of(arguments: argparse.Namespace) -> list[str]:
    """The secrets in the file or the environment; empty where neither has one.

    Raises:
        CommandError: The file cannot be read or is empty, or the variable is set and empty.
    """
    if arguments.secret_file is None:
        found = os.environ.get(SECRET, "").split()
        if not found and SECRET in os.environ:
            # An empty variable was meant to hold a secret, and must not open the server to everybody.
            raise CommandError(exit_codes.USAGE, f"{SECRET} is set and empty: put a secret there, or unset it")
        return found
    try:
        found = Path(arguments.secret_file).read_text(encoding="ascii").split()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise CommandError(exit_codes.USAGE, f"the secret cannot be read from {arguments.secret_file}: {why}") from None
    if not found:
        raise CommandError(exit_codes.USAGE, f"there is no secret in {arguments.secret_file}")
    return found


def serve(arguments: argparse.Namespace) -> int:
    """`trio-progress serve`."""
    package = server()
    secrets = secrets_of(arguments)
    where = store_location.locate(arguments)
    if where.url == "memory:":
        raise CommandError(
            exit_codes.USAGE, "a store 'memory:' belongs to one process, so there is nothing to serve: name a file"
        )
    from ..server.auth.origins import is_loopback

    if not secrets and arguments.host and not is_loopback(arguments.host):
        raise CommandError(
            exit_codes.USAGE,
            f"--host {arguments.host} is reachable from other machines, which needs a secret: set {SECRET}, or give "
            "--secret-file; `trio-progress token --new-secret` makes one",
        )
    try:
        settings = {name: getattr(arguments, name) for name in SETTINGS}
        settings["auth"] = [package.SharedSecret(*secrets), package.SignedTokens(*secrets)] if secrets else None
        settings["ssl_context"] = _tls(arguments)
        package.ServerSettings(**settings)
    except (ValueError, TypeError) as error:
        raise CommandError(exit_codes.USAGE, str(error)) from None
    return output.run(_serve, package, where, arguments, settings)


async def _serve(package: Any, where: StoreLocation, arguments: argparse.Namespace, settings: dict[str, Any]) -> int:
    import trio

    from ..settings import Settings

    lost_after: float = arguments.lost_after
    beat = min(Settings().heartbeat_interval, lost_after / 3)  # It must be below `lost_after`; no session runs here.
    required = not arguments.wait_for_store
    async with AsyncExitStack() as stack:
        tracker = await store_location.enter_tracker(
            stack, where.made(), lost_after=lost_after, heartbeat_interval=beat, require_store=required
        )
        tracker.interrupt_on(signal.SIGTERM)
        opened = await enter_server(stack, package, tracker, arguments.port, settings)
        output.print_notice(f"Serving {where.shown} at {opened.url}")
        if opened.admin_url is not None:
            output.print_notice(f"Probes and metrics at {opened.admin_url}metrics, .../healthz and .../readyz")
        logger = logging.getLogger("trio_progress")
        logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))  # That it serves was just said.
        # A collection of all objects would hold up the loop for some 60 ms; what start-up has made stays anyway.
        gc.collect()
        gc.freeze()
        await trio.Event().wait()  # until a signal
    assert tracker.interrupted_by is not None
    return exit_codes.SIGNAL + int(tracker.interrupted_by)


async def enter_server(stack: AsyncExitStack, package: Any, tracker: Any, port: int, settings: dict[str, Any]) -> Any:
    """A server, left with the stack; a `CommandError` says that the port cannot be bound."""
    try:
        return await stack.enter_async_context(package.open_server(tracker, port, **settings))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE  # Then the message names the port, which may be the other one.
        why = error.strerror or error
        raise CommandError(exit_codes.USAGE, f"{why}" if taken else f"port {port} cannot be bound: {why}") from None


def _tls(arguments: argparse.Namespace) -> Any:
    if (arguments.certificate is None) != (arguments.key is None):
        raise CommandError(exit_codes.USAGE, "TLS needs both --certificate and --key")
    if arguments.certificate is None:
        return None
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(arguments.certificate, arguments.key)
    except OSError as error:  # ssl.SSLError is one
        why = getattr(error, "reason", None) or error.strerror
        raise CommandError(exit_codes.USAGE, f"the certificate or its key cannot be used: {why}") from None
    return context
