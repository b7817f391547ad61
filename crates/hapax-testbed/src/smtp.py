"""A mail server for tests: aiosmtpd, which keeps what it accepts, one JSON object a line.

Arguments: port, file of messages, protection (none, starttls, tls), certificate, key, user, password. Without a user
nobody needs to log in.
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

port, messages, protection, certificate, key, user, password = sys.argv[1:]


class Keep:
    async def handle_DATA(self, server, session, envelope):
        login = session.auth_data.login.decode() if session.authenticated else None
        message = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "user": login,
            "text": envelope.content.decode("utf-8", "surrogateescape"),
        }
        with open(messages, "a") as file:
            file.write(json.dumps(message) + "\n")
        return "250 kept"


def authenticate(server, session, envelope, mechanism, login):
    known = (login.login.decode(), login.password.decode()) == (user, password)
    return AuthResult(success=known, handled=False, auth_data=login)


def context():
    if protection == "none":
        return None
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(certificate, key)
    return made


def connection():
    return SMTP(
        Keep(),
        hostname="mail.test",
        tls_context=tls if protection == "starttls" else None,
        require_starttls=protection == "starttls",
        auth_required=user != "",
        auth_require_tls=protection == "starttls",
        authenticator=authenticate,
    )


async def serve():
    wrapped = tls if protection == "tls" else None
    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", int(port), ssl=wrapped)
    await server.serve_forever()


tls = context()
asyncio.run(serve())
