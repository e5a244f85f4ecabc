"""A control panel on PyPI's package for TrueConf Room: how it finds a terminal, what it is told there with the right PIN, a wrong
one and none, and how it comes back. `scripts/clients` starts the server, and says in a file where its web port is and what opens
the terminal. The package finds the other ports by itself, through `config.json`, and falls back to those of a device (8765, 8766)
when it finds none: so a check looks at what it found.

The package tells its caller little, so what it hears is taken from a handler of its own, which it calls for each answer, and from
its log, where alone it says what a refused `auth` was answered. It writes that log where it is started, too.
"""

import ast
import json
import logging
import socket
import sys
import time
from pathlib import Path

import requests
import trueconf_room
from trueconf_room import SessionStatus

STAGE = json.loads(Path(sys.argv[1]).read_text())
PLACES = {name: int(place.rsplit(":", 1)[1]) for name, place in STAGE["ready"]["trueconf"].items()}
SECRETS = STAGE["secrets"]
# The longest that anything here may take, in seconds.
PATIENCE = 10

failed = 0


def check(name):
    """Runs what it decorates, and prints what became of it."""

    def run(body):
        global failed
        try:
            body()
            print(f"ok {STAGE['label']}: {name}", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED {STAGE['label']}: {name}: {type(error).__name__} {' '.join(str(error).split())}", flush=True)

    return run


def same(seen, expected):
    if seen != expected:
        raise AssertionError(f"{seen!r} instead of {expected!r}")


def until(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {PATIENCE} seconds")
        time.sleep(0.02)


class Refusals(logging.Handler):
    """What the package logs of a refused `auth`."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def emit(self, record):
        said, found, answer = record.getMessage().partition("Auth error: ")
        if found and not said:
            self.heard.append(ast.literal_eval(answer))


refusals = Refusals()
logging.getLogger("videosdk").addHandler(refusals)


class Panel(trueconf_room.VideoSDK):
    """The package's session, with what it heard."""

    def __init__(self):
        super().__init__(debug=False)
        self.heard = []
        self.add_handler({"method": None, "result": None}, self.heard.append)

    def opened(self, pin):
        """Opens a session, also one that was open before, and returns what `auth` was answered."""
        self.heard.clear()
        refusals.heard.clear()
        self.open_session(ip="127.0.0.1", port=PLACES["web"], pin=pin)
        return self.answer("auth")

    def answer(self, method):
        def found():
            return [answer for answer in [*self.heard, *refusals.heard] if answer["method"] == method]

        until(f"an answer to {method}", found)
        return found()[0]

    def let_in(self, pin, role):
        answer = self.opened(pin)
        same((answer["result"], answer.get("resultCode"), answer.get("previleges")), (True, 0, role))
        until("ready", self.isReady)
        same(self.getTokenForHttpServer(), answer["tokenForHttpServer"])
        return answer

    def kept_out(self, pin, code):
        answer = self.opened(pin)
        same((answer["result"], answer["resultCode"], answer.get("token")), (False, code, None))
        until("closed, as the package has it", lambda: self.session_status == SessionStatus.close)
        same((self.isReady(), self.getTokenForHttpServer()), (False, ""))
        # The socket is still there, and commands on it open nothing.
        self.websocket.send(json.dumps({"method": "getAppState"}))
        same(self.answer("getAppState")["result"], False)

    def dropped(self):
        """The socket goes without a word of goodbye."""
        self.websocket.sock.sock.shutdown(socket.SHUT_RDWR)
        until("the package sees it", lambda: self.session_status == SessionStatus.close)
        same(self.getTokenForHttpServer(), "")


def status_of_own_picture(panel):
    """There is no device: a good token finds nothing, a bad one is told so."""
    return requests.get(panel.getSelfViewURL(), timeout=PATIENCE).status_code


@check("ports by config.json")
def _():
    panel = Panel()
    panel.opened(None)
    same((panel.wsPort, panel.http_port), (PLACES["control.default"], PLACES["http"]))


for secret in SECRETS:

    @check(f"right PIN: {secret['what']}")
    def _():
        panel = Panel()
        panel.let_in(secret["text"], secret["role"])
        # The package asks these by itself once it is in.
        same((panel.answer("getAppState")["result"], panel.getAppState()), (True, 0))
        for method in ("getSettings", "getSystemInfo", "getMonitorsInfo"):
            panel.answer(method)

    @check(f"its token for files: {secret['what']}")
    def _():
        panel = Panel()
        panel.let_in(secret["text"], secret["role"])
        same(status_of_own_picture(panel), 404)
        panel.auth_token = panel.auth_token[::-1]
        same(status_of_own_picture(panel), 401)

    @check(f"reconnect by PIN: {secret['what']}")
    def _():
        panel = Panel()
        before = panel.let_in(secret["text"], secret["role"])
        panel.dropped()
        after = panel.let_in(secret["text"], secret["role"])
        if before["token"] == after["token"]:
            raise AssertionError("the same token again")
        same(status_of_own_picture(panel), 404)

    @check(f"reconnect by token: {secret['what']}")
    def _():
        panel = Panel()
        before = panel.let_in(secret["text"], secret["role"])
        panel.dropped()
        panel.let_in(before["token"], secret["role"])

    @check(f"after a wrong PIN, the right one: {secret['what']}")
    def _():
        panel = Panel()
        panel.kept_out("wrong", 8)
        panel.let_in(secret["text"], secret["role"])


if SECRETS:

    @check("wrong PIN")
    def _():
        Panel().kept_out(SECRETS[0]["text"] + "0", 8)

else:

    @check("a PIN where none is asked for")
    def _():
        Panel().kept_out("Shodan-9", 4)


if STAGE["without"] == 0:

    @check("no PIN, and kept out")
    def _():
        Panel().kept_out(None, 4)

else:

    @check("no PIN, and let in")
    def _():
        Panel().let_in(None, STAGE["without"])

    @check("no PIN, and reconnect")
    def _():
        panel = Panel()
        panel.let_in(None, STAGE["without"])
        panel.dropped()
        panel.let_in("", STAGE["without"])


sys.exit(0 if failed == 0 else 1)
