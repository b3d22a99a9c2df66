"""The server: WebSocket, server-sent events, HTTP and a page, on one port. Needs the extra `server`."""

from ..errors import require_extra as _needed

with _needed("the server", "server"):
    from .auth.authenticator import Auth as Auth
    from .auth.authenticator import Trusted as Trusted
    from .auth.grants import Credentials as Credentials
    from .auth.grants import Grant as Grant
    from .auth.tokens import SharedSecret as SharedSecret
    from .auth.tokens import SignedTokens as SignedTokens
    from .auth.tokens import issue_token as issue_token
    from .auth.tokens import new_secret as new_secret
    from .serving import Server as Server
    from .serving import open_server as open_server
    from .serving import serve as serve
    from .settings import ServerSettings as ServerSettings
