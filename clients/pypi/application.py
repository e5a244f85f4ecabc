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
from typing import List, Optional

from dataclasses_json import LetterCase, Undefined, dataclass_json
from servicestack import (
    AssignRoles,
    Authenticate,
    IGet,
    IReturn,
    JsonServiceClient,
    UnAssignRoles,
    UserApiKey,
    WebServiceException,
)

STAGE = json.loads(Path(sys.argv[1]).read_text())
URL, ADMIN, USER = STAGE["url"], STAGE["admin"], STAGE["user"]
PASCAL = STAGE["case"] == "pascal"
# How long a token of two seconds is over for certain.
OVER = 3
# A session and no token, as from a host without tokens.
WITHOUT_TOKEN = {"meta": {"ignore": "jwt"}}

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
class ApiKeys:
    results: Optional[List[UserApiKey]] = None


@dataclass_json(letter_case=LetterCase.CAMEL, undefined=Undefined.EXCLUDE)
@dataclass
class GetApiKeys(IReturn[ApiKeys], IGet):
    """What is asked of those who are logged in alone."""

    environment: Optional[str] = None


def guarded(client):
    same(client.asked(GetApiKeys(environment="live"), "GET").results, None if PASCAL else [])


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


@check("roles taken away, and seen in the session")
def _():
    client = logged_in(USER)
    before = client.asked(Authenticate())
    answer = logged_in(ADMIN).asked(UnAssignRoles(**ROLES))
    seen = client.asked(Authenticate())
    if not PASCAL:
        same(before.roles, ["Editor"])
        same((answer.all_roles, seen.roles, seen.permissions), ([], [], []))


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
    refused(lambda: guarded(client), 401, "TokenException", "Token has expired")


@check("a refused client renews its token by refresh token, and asks again")
def _():
    client = ended()
    _, asked = sent_during(lambda: guarded(client))
    same(asked, ["GetApiKeys", "GetAccessToken"])
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
