"""The live door: WebSocket, server-sent events, HTTP and a page, on one port. Needs the extra `server`."""

from ..extras import needed as _needed

with _needed("the server", "server"):
    from .auth import Auth as Auth
    from .auth import Trusted as Trusted
    from .grants import Credentials as Credentials
    from .grants import Grant as Grant
    from .serving import Server as Server
    from .serving import open_server as open_server
    from .serving import serve as serve
    from .settings import ServerSettings as ServerSettings
    from .tokens import SharedSecret as SharedSecret
    from .tokens import SignedTokens as SignedTokens
    from .tokens import issue_token as issue_token
    from .tokens import new_secret as new_secret
