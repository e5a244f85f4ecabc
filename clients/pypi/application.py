"""An application on PyPI's client of the framework: what it is told by the gate, as that client parses it, and what that client
does by itself when a token has ended. It knows the gate by its address alone; `scripts/clients` starts the server, and says in a
file where it is, which case it answers in, and who has an account.

This client reads camelCase and nothing else. In PascalCase it is shown that it gets the right status, which is all that it sees.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from dataclasses_json import LetterCase, Undefined, dataclass_json
from servicestack import AssignRoles, Authenticate, IReturn, JsonServiceClient, UnAssignRoles, WebServiceException
from servicestack.log import Log, NullLogger

STAGE = json.loads(Path(sys.argv[1]).read_text())
URL, ADMIN, USER = STAGE["url"], STAGE["admin"], STAGE["user"]
PASCAL = STAGE["case"] == "pascal"
# How long a token of two seconds is over for certain.
OVER = 3
# A session and no token, as from a host without tokens.
WITHOUT_TOKEN = {"meta": {"ignore": "jwt"}}

# It would print among the checks what it cannot read.
Log.logger = NullLogger()

failed = 0


def check(name):
    """Runs what it decorates, and prints what became of it."""

    def run(body):
        global failed
        try:
            body()
            print(f"ok {STAGE['label']}: {name}")
        except Exception as error:
            failed += 1
            print(f"FAILED {STAGE['label']}: {name}: {type(error).__name__} {' '.join(str(error).split())}")

    return run


def same(seen, expected):
    if seen != expected:
        raise AssertionError(f"{seen!r} instead of {expected!r}")


def other(seen, before):
    if not seen or seen == before:
        raise AssertionError(f"still {seen!r}")


# What any client asks for, by the last part of the address.
sent = []
JsonServiceClient.global_request_filter = lambda info: sent.append(info.url.split("?")[0].split("/")[-1])


def sent_during(ask):
    sent.clear()
    return ask(), list(sent)


def credentials(account, **more):
    named = {"user_name": account["name"], "password": account["password"]}
    return Authenticate(provider="credentials", **{**named, **more})


class Client(JsonServiceClient):
    """The client as it is; of its answers the status is kept too, which is all that it sees in PascalCase."""

    def __init__(self):
        super().__init__(URL)
        self.status = None
        self.response_filter = lambda response: setattr(self, "status", response.status_code)

    def asked(self, request, verb="POST"):
        self.status = None
        answer = self.send(request, verb)
        same(self.status, 200)
        return answer


def logged_in(account, **more):
    client = Client()
    client.answer = client.asked(credentials(account, **(more or WITHOUT_TOKEN)))
    return client


def refused(ask, status, code, message):
    try:
        answer = ask()
    except WebServiceException as error:
        same(error.status_code, status)
        if not PASCAL:
            same((error.response_status.error_code, error.response_status.message), (code, message))
        return
    raise AssertionError(f"let through: {answer!r}")


@dataclass_json(letter_case=LetterCase.CAMEL, undefined=Undefined.EXCLUDE)
@dataclass
class Mirror(IReturn[str]):
    """The application's own service, behind the gate: it shows as text what has come through to it.

    A "no" in front of it has no error of the framework in its body, so the client makes one of the status and the reason phrase.
    """

    name: Optional[str] = None


def shown(client, verb="GET", name=None, body=""):
    answer = client.asked(Mirror(name), verb)
    same(answer.split()[0], verb)
    same(answer.split("\n\n", 1), [answer.split("\n\n", 1)[0], body])
    same(answer.split("\n\n", 1)[0].split("\n")[-1], f"by {USER['name']}")
    # What the client proved itself with is nothing for a service.
    same([own for own in ("ss-id", "ss-pid", "ss-tok", "ss-reftok") if own in answer], [])


NOBODY = (401, "Unauthorized", "Not Authenticated")
WRONG = (401, "Unauthorized", "Invalid Username or Password")
ROLES = {"user_name": USER["name"], "roles": ["Editor"], "permissions": ["publish"]}


@check("wrong password")
def _():
    refused(lambda: Client().post(credentials(USER, password="Diego")), *WRONG)


@check("nobody without a session")
def _():
    refused(lambda: Client().post(Authenticate()), *NOBODY)


@check("login")
def _():
    answer = logged_in(USER).answer
    if PASCAL:
        same(answer.user_name, None)
        return
    same((answer.user_name, answer.display_name), (USER["name"], USER["display"]))
    same((answer.roles, answer.permissions, answer.bearer_token), ([], [], None))


@check("login by a password with each request")
def _():
    client = Client().set_credentials(USER["name"], USER["password"])
    same(client.asked(Authenticate()).user_name, None if PASCAL else USER["name"])


@check("session")
def _():
    client = logged_in(USER)
    answer = client.asked(Authenticate())
    client.asked(Authenticate(), "GET")
    same((answer.user_name, answer.session_id), (client.answer.user_name, client.answer.session_id))


@check("a service behind the gate is not for everybody")
def _():
    refused(lambda: shown(Client()), 401, "401", "Unauthorized")


@check("a service behind the gate knows who is logged in")
def _():
    shown(logged_in(USER))
    shown(logged_in(USER, use_token_cookie=True))


@check("a service behind the gate asks for a role")
def _():
    refused(lambda: shown(logged_in(USER), "POST", "Citadel"), 403, "403", "Invalid Role")


@check("roles are not for everybody to assign")
def _():
    refused(lambda: logged_in(USER).post(AssignRoles(**ROLES)), 403, "Forbidden", "Invalid Role")


@check("roles assigned, and seen in the session")
def _():
    client = logged_in(USER)
    answer = logged_in(ADMIN).asked(AssignRoles(**ROLES))
    seen = client.asked(Authenticate())
    if not PASCAL:
        same((answer.all_roles, answer.all_permissions), (["Editor"], ["publish"]))
        same((seen.roles, seen.permissions), (["Editor"], ["publish"]))
    shown(client, "POST", "Citadel", '{"name": "Citadel"}')


@check("roles taken away, and seen in the session")
def _():
    client = logged_in(USER)
    before = client.asked(Authenticate())
    answer = logged_in(ADMIN).asked(UnAssignRoles(**ROLES))
    seen = client.asked(Authenticate())
    if not PASCAL:
        same(before.roles, ["Editor"])
        same((answer.all_roles, seen.roles, seen.permissions), ([], [], []))
    refused(lambda: shown(client, "POST", "Citadel"), 403, "403", "Invalid Role")


@check("tokens in cookies, renewed by the gate on the way")
def _():
    client = logged_in(USER, use_token_cookie=True)
    same((client.answer.bearer_token, client.use_token_cookie), (None, True))
    first = client.token_cookie
    time.sleep(OVER)
    seen, asked = sent_during(lambda: client.asked(Authenticate()))
    same(seen.user_name, None if PASCAL else USER["name"])
    same(asked, ["Authenticate"])
    other(client.token_cookie, first)


@check("a refused client renews its token by cookie, and asks again")
def _():
    client = logged_in(USER, use_token_cookie=True)
    first = client.token_cookie
    wrong = credentials(USER, password="Diego")
    _, asked = sent_during(lambda: refused(lambda: client.post(wrong), *WRONG))
    same(asked, ["Authenticate", "GetAccessToken"])
    other(client.token_cookie, first)


def ended():
    """Holds an access token that has ended and the refresh token it came with, and no cookie."""
    client = Client()
    tokens = JsonServiceClient(URL).post(credentials(USER, use_token_cookie=False), args={"jsconfig": "eccn"})
    time.sleep(OVER)
    client.before = tokens.bearer_token
    client.set_bearer_token(tokens.bearer_token).set_refresh_token(tokens.refresh_token)
    return client


@check("an ended token alone opens nothing")
def _():
    client = ended().set_refresh_token(None)
    refused(lambda: shown(client), 401, "TokenException", "Token has expired")


@check("a refused client renews its token by refresh token, and asks again")
def _():
    client = ended()
    _, asked = sent_during(lambda: shown(client))
    same(asked, ["Mirror", "GetAccessToken"])
    if PASCAL:
        # It cannot read a token in an answer; this host puts it into a cookie.
        same(client.bearer_token, None)
        other(client.token_cookie, client.before)
    else:
        other(client.bearer_token, client.before)


@check("logout")
def _():
    client = logged_in(USER)
    kept = client._session.cookies.copy()
    client.asked(Authenticate(provider="logout"))
    refused(lambda: client.post(Authenticate()), *NOBODY)
    thief = Client()
    thief._session.cookies = kept
    refused(lambda: thief.post(Authenticate()), *NOBODY)


@check("logout with tokens")
def _():
    client = logged_in(USER, use_token_cookie=True)
    client.asked(Authenticate(provider="logout"))
    same((client.token_cookie, client.refresh_token_cookie), (None, None))
    client.use_token_cookie = False
    refused(lambda: client.post(Authenticate()), *NOBODY)


sys.exit(0 if failed == 0 else 1)
