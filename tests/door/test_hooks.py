"""Webhooks: only what a sender signed, with the sender's own id, once; and the ways of signing against their oracles."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from tests.door.conftest import PROJECT, Answer, Front, served
from tidemill.core.errors import OperatorError
from tidemill.project.hooks import Hook, hook_of
from tidemill.project.loading import load
from tidemill.project.secrets import Secret
from tidemill.server.refusals import WrongSignature
from tidemill.server.signatures import SCHEMES, verify

NUMBERS = itertools.count()
NEW, OLD = ("whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = "whpk_" + base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()
ENVIRONMENT = {
    "HOOK_NEW": NEW,
    "HOOK_OLD": OLD,
    "HOOK_PUBLIC": PUBLIC,
    "HOOK_GITHUB": "gh secret",
    "HOOK_STRIPE": "whsec_stripe keeps its prefix",
}


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("hooked") / "project"
    with pytest.MonkeyPatch.context() as patch, served(folder, PROJECT) as front:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        (folder / "shopify.secret").write_text("shop secret\n")
        yield front


def call(front: Front, hook: str, body: bytes, headers: dict[str, str]) -> Answer:
    return front.ask("POST", f"/v1/hooks/{hook}", body, **headers)


def counts(answer: Answer) -> tuple[int, ...]:
    return (answer.status, *(answer.json[name] for name in ("accepted", "duplicate", "parked")))


def new_id() -> str:
    return f"msg_{next(NUMBERS)}"


# The ways of signing.


def standard(body: bytes, secret: str, id_: str, at: float | None = None) -> dict[str, str]:
    """As the senders' library signs it."""
    moment = dt.datetime.fromtimestamp(at or time.time(), dt.UTC)
    signature = Webhook(secret).sign(id_, moment, body.decode())
    return {"webhook-id": id_, "webhook-timestamp": str(int(moment.timestamp())), "webhook-signature": signature}


def asymmetric(body: bytes, id_: str) -> dict[str, str]:
    at = str(int(time.time()))
    signature = base64.b64encode(PRIVATE.sign(f"{id_}.{at}.".encode() + body)).decode()
    return {"webhook-id": id_, "webhook-timestamp": at, "webhook-signature": f"v1a,{signature}"}


def github(body: bytes, id_: str, event: str = "push", secret: str = "gh secret") -> dict[str, str]:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Delivery": id_, "X-GitHub-Event": event}


def stripe(body: bytes, at: float | None = None, secret: str = ENVIRONMENT["HOOK_STRIPE"]) -> dict[str, str]:
    stamp = str(int(at or time.time()))
    signature = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={stamp},v1={'0' * 64},v1={signature},v0=old"}


def shopify(body: bytes, id_: str, secret: str = "shop secret") -> dict[str, str]:
    signature = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    more = {"X-Shopify-Topic": "orders/paid", "X-Shopify-Triggered-At": "2026-11-20T10:00:00.5Z"}
    return {"X-Shopify-Hmac-SHA256": signature, "X-Shopify-Webhook-Id": id_, **more}


def test_the_example_of_the_github_documentation_is_verified() -> None:
    hook = Hook("g", "github", "g", (Secret("It's a Secret to Everybody"),))
    known = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    verify(hook, {"x-hub-signature-256": known}, b"Hello, World!", 0)


@given(st.text(), st.binary(min_size=24, max_size=64))
def test_what_the_library_signs_is_verified_and_nothing_near_it(body: str, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    hook = Hook("s", "standard", "s", (Secret(secret),))
    sent = body.encode("utf-8", "replace")
    headers = standard(sent, secret, "msg_1", 1_000_000)
    verify(hook, headers, sent, 1_000_000)
    for spoilt in ({"webhook-id": "msg_2"}, {"webhook-timestamp": "1000001"}, {"webhook-signature": "v1,AAAA"}):
        with pytest.raises(WrongSignature):
            verify(hook, {**headers, **spoilt}, sent, 1_000_000)
    with pytest.raises(WrongSignature):
        verify(hook, headers, sent + b" ", 1_000_000)


@given(st.text(st.characters(max_codepoint=255)), st.sampled_from(list(SCHEMES)))
def test_no_signature_header_can_do_more_than_be_wrong(said: str, scheme: str) -> None:
    hook = Hook("s", scheme, "s", (Secret(NEW), Secret(PUBLIC)))
    headers = {SCHEMES[scheme].signature: said, "webhook-id": said, "webhook-timestamp": said}
    with pytest.raises(WrongSignature):
        verify(hook, headers, b"{}", time.time())


# What lands.


def test_a_standard_webhook_lands_under_its_own_id(hooked: Front) -> None:
    id_ = new_id()
    body = b'{\n "type": "order.paid", "timestamp": "2026-11-20T10:00:00Z",\n "data": {"amount": 1.10}\n}'
    assert counts(call(hooked, "standard", body, standard(body, NEW, id_))) == (202, 1, 0, 0)
    [row] = hooked.rows(f"select * exclude (received_at) from hooked where event_id = '{id_}'")
    assert row == {
        "hook": "standard",
        "event_id": id_,
        "type": "order.paid",
        "event_time": "2026-11-20T10:00:00",
        "payload": body.replace(b"\n", b" ").decode(),
    }


def test_a_delivery_that_is_tried_again_is_the_same_event(hooked: Front) -> None:
    id_, body = new_id(), b'{"type": "t"}'
    first = call(hooked, "standard", body, standard(body, NEW, id_, time.time() - 60))
    again = call(hooked, "standard", body, standard(body, NEW, id_))
    assert counts(first) == (202, 1, 0, 0)
    assert counts(again) == (202, 0, 1, 0)


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_while_a_secret_is_changed_both_count(hooked: Front, secret: str) -> None:
    body = b"{}"
    assert call(hooked, "standard", body, standard(body, secret, new_id())).status == 202


def test_any_of_several_signatures_will_do(hooked: Front) -> None:
    id_, body = new_id(), b"{}"
    headers = standard(body, OLD, id_)
    headers["webhook-signature"] = f"v1,AAAA v1a,BBBB v2,x {headers['webhook-signature']}"
    assert call(hooked, "standard", body, headers).status == 202


def test_a_public_key_verifies_what_only_its_owner_can_sign(hooked: Front) -> None:
    id_, body = new_id(), b'{"type": "t"}'
    headers = asymmetric(body, id_)
    assert counts(call(hooked, "public", body, headers)) == (202, 1, 0, 0)
    assert call(hooked, "public", body + b" ", headers).status == 401
    as_symmetric = {**headers, "webhook-signature": headers["webhook-signature"].replace("v1a", "v1")}
    assert call(hooked, "public", body, as_symmetric).status == 401


def test_a_github_delivery_lands(hooked: Front) -> None:
    id_, body = new_id(), b'{"action": "opened", "number": 2}'
    assert counts(call(hooked, "github", body, github(body, id_, "issues"))) == (202, 1, 0, 0)
    form = urlencode({"payload": body.decode()}).encode()
    typed = {**github(form, new_id()), "Content-Type": "application/x-www-form-urlencoded"}
    assert counts(call(hooked, "github", form, typed)) == (202, 1, 0, 0)
    found = hooked.rows("select type, payload->>'action' as action from github where type in ('issues', 'push')")
    assert sorted(found, key=str) == [{"type": "issues", "action": "opened"}, {"type": "push", "action": "opened"}]


def test_a_stripe_event_lands_with_the_columns_that_its_topic_declares(hooked: Front) -> None:
    id_ = f"evt_{next(NUMBERS)}"
    body = json.dumps({"id": id_, "type": "charge.succeeded", "created": 1_763_632_800, "livemode": True}).encode()
    assert counts(call(hooked, "stripe", body, stripe(body))) == (202, 1, 0, 0)
    assert counts(call(hooked, "stripe", body, stripe(body, time.time() - 500))) == (202, 0, 1, 0)
    [row] = hooked.rows(f"select type, event_time, livemode from payments where event_id = '{id_}'")
    assert row == {"type": "charge.succeeded", "event_time": "2025-11-20T10:00:00", "livemode": True}


def test_a_shopify_webhook_lands(hooked: Front) -> None:
    id_, body = new_id(), b'{"id": 820982911946154508}'
    assert counts(call(hooked, "shopify", body, shopify(body, id_))) == (202, 1, 0, 0)
    [row] = hooked.rows("select type, event_time, payload->>'id' as number from shopify")
    assert row == {"type": "orders/paid", "event_time": "2026-11-20T10:00:00.500000", "number": "820982911946154508"}


def test_what_is_not_json_is_kept_as_text(hooked: Front) -> None:
    for number, body in enumerate((b"hello", b"{", b"")):
        headers = shopify(body, f"text {number}")
        assert counts(call(hooked, "shopify", body, headers)) == (202, 1, 0, 0)
    found = hooked.rows("select payload from shopify where event_id like 'text %' order by event_id")
    assert [row["payload"] for row in found] == ['"hello"', '"{"', '""']


def test_githubs_own_examples_land_as_they_are(hooked: Front, node_folder: Path) -> None:
    index = node_folder / "node_modules" / "@octokit" / "webhooks-examples" / "api.github.com" / "index.json"
    examples = [(each["name"], one) for each in json.loads(index.read_text()) for one in each["examples"]]
    assert len(examples) > 300
    for number, (name, example) in enumerate(examples):
        body = json.dumps(example, indent=1, ensure_ascii=False).encode()
        assert counts(call(hooked, "github", body, github(body, f"example {number}", name))) == (202, 1, 0, 0), name
    found = hooked.rows("select event_id, payload from github where event_id like 'example %'")
    kept = {row["event_id"]: json.loads(row["payload"]) for row in found}
    assert kept == {f"example {number}": example for number, (_, example) in enumerate(examples)}


# What does not land.


@pytest.mark.parametrize(
    ("hook", "headers", "reason"),
    [
        ("standard", dict, "the header webhook-signature is missing"),
        ("standard", lambda: standard(b"{}", NEW, "x", time.time() - 301), "more than 300 s are not taken"),
        ("standard", lambda: standard(b"{}", NEW, "x", time.time() + 320), "more than 300 s are not taken"),
        ("standard", lambda: {**standard(b"{}", NEW, "x"), "webhook-timestamp": "soon"}, "no number of seconds"),
        ("standard", lambda: standard(b"{} ", NEW, "x"), "no signature fits"),
        ("standard", lambda: {**standard(b"{}", NEW, "x"), "webhook-signature": "v1,!!!"}, "no signature fits"),
        ("github", lambda: github(b"{}", "x", secret="other"), "no signature fits"),
        ("github", lambda: {"X-Hub-Signature-256": "sha1=00"}, "no signature fits"),
        ("stripe", lambda: stripe(b"{}", time.time() - 700), "more than 600 s are not taken"),
        ("stripe", lambda: {"Stripe-Signature": "v1=00"}, "the signed time is missing"),
        ("shopify", lambda: shopify(b"{}", "x", "other"), "no signature fits"),
    ],
)
def test_what_is_not_signed_now_by_its_sender_is_refused(
    hooked: Front, hook: str, headers: Callable[[], dict[str, str]], reason: str
) -> None:
    answer = call(hooked, hook, b"{}", headers())
    assert answer.status == 401
    assert reason in answer.json["error"]["message"]
    assert not any(secret in answer.body.decode() for secret in (NEW, OLD, "gh secret", "shop secret"))


def test_a_call_without_an_id_is_refused(hooked: Front) -> None:
    for hook, body, headers in (("stripe", b"{}", stripe(b"{}")), ("github", b"{}", github(b"{}", ""))):
        answer = call(hooked, hook, body, headers)
        assert answer.status == 400
        assert "the call has no id" in answer.json["error"]["message"]


def test_a_secret_that_is_not_set_is_our_trouble_and_named_by_its_reference(hooked: Front) -> None:
    answer = call(hooked, "unset", b"{}", standard(b"{}", NEW, "x"))
    assert answer.status == 503
    assert "HOOK_UNSET is not set" in answer.json["error"]["message"]


def test_an_unknown_hook_says_how_to_declare_it(hooked: Front) -> None:
    answer = call(hooked, "nobody", b"{}", {})
    assert (answer.status, answer.json["error"]["mend"]) == (404, "declare it: [hooks.nobody] in tidemill.toml")


def test_a_hook_may_be_called_through_any_name_for_its_signature_is_the_proof(hooked: Front) -> None:
    body = b"{}"
    assert call(hooked, "github", body, {**github(body, new_id()), "Host": "hooks.example.com"}).status == 202


# Declaring them.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('secret = "${A}"\nscheme = "gitlab"', '"gitlab" is not a scheme'),
        ('secret = "whsec_in_the_file"', "a secret stands in the file"),
        ('scheme = "github"', "it has no secret"),
        ("secret = []", "it has no secret"),
        ('secret = "${A}"\ntolerance = 5', "is not a duration"),
        ('secret = "${A}"\nsecrets = "${B}"', "unknown word secrets"),
        ('secret = "${A}"\nasset = "outside"\n[assets.outside]\nkind = "external"', "outside is no topic"),
    ],
)
def test_a_hook_that_is_declared_wrongly_is_a_problem_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tidemill.toml").write_text(f'[project]\nname = "p"\n[hooks.x]\n{text}\n')
    [problem] = load(tmp_path).problems
    assert message in problem.message
    assert problem.place.startswith("tidemill.toml:")
    assert "in_the_file" not in str(problem)


def test_a_public_key_may_stand_in_the_file() -> None:
    hook, problems = hook_of("x", {"secret": PUBLIC}, Path(), lambda *_: "")
    assert (hook is not None, problems) == (True, [])


def test_a_secret_that_is_no_base64_is_the_operators_to_mend() -> None:
    hook = Hook("s", "standard", "s", (Secret("whsec_???"),))
    with pytest.raises(OperatorError, match="not base64"):
        verify(hook, standard(b"{}", NEW, "x"), b"{}", time.time())
