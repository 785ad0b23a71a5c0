"""API keys as the official client and plain HTTP meet them."""

import hashlib
import http.client
import json
import urllib.parse

import openai
import pytest

from serving import Server

QUESTION = [{"role": "user", "content": "What is an NPU?"}]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    directory = tmp_path_factory.mktemp("guarded")
    digest = hashlib.sha256(b"secret-of-bob").hexdigest()
    keys = directory / "keys.toml"
    keys.write_text(
        f'[[key]]\nname = "bob"\nsha256 = "{digest}"\n'
        '[[key]]\nname = "eve"\nsecret = "secret-of-eve"\nrequests_per_minute = 1\n'
        '[[key]]\nname = "one"\nsecret = "secret-of-one"\nconcurrent_max = 1\n'
    )
    keys.chmod(0o600)
    server = Server(
        directory,
        RKLLAMA_AUTH__KEYS="ada:secret-of-ada",
        RKLLAMA_AUTH__KEYS_FILE=str(keys),
        # At its real speed an endless answer lasts for a minute.
        MOCK_NPU_SCALE="1",
    )
    yield server
    server.stop()


def as_owner(server, key):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def raw(server, method, path, body=None, **headers):
    address = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("key", ["secret-of-ada", "secret-of-bob"])
def test_a_key_lets_in(guarded, key):
    with as_owner(guarded, key) as client:
        answer = client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=3)
        assert answer.choices[0].message.content
        assert client.models.retrieve("demo").id == "demo"


def test_a_wrong_key_is_an_authentication_error(guarded):
    with as_owner(guarded, "secret-of-nobody") as client:
        for ask in (
            lambda: client.models.list(),
            lambda: client.chat.completions.create(model="demo", messages=QUESTION),
            lambda: client.chat.completions.create(model="demo", messages=QUESTION, stream=True),
        ):
            with pytest.raises(openai.AuthenticationError) as raised:
                ask()
            assert raised.value.code == "invalid_api_key"
            assert "secret-of-nobody" not in str(raised.value)


def test_without_a_key_the_answer_says_how(guarded):
    status, headers, body = raw(guarded, "GET", "/v1/models")
    headers = {name.lower(): value for name, value in headers.items()}
    assert status == 401 and headers["www-authenticate"] == "Bearer"
    assert headers["content-type"] == "application/json"
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert raw(guarded, "GET", "/v1/models", **{"x-api-key": "secret-of-ada"})[0] == 200


def test_what_is_open_needs_no_key(guarded):
    for path in ("/health", "/docs/", "/openapi.json", "/openapi.yaml"):
        assert raw(guarded, "GET", path)[0] == 200, path


def test_the_refusal_of_a_large_request_is_heard(guarded):
    """Not a reset in its place: that a client would take for a fault of the network, and repeat."""
    body = json.dumps({"messages": [{"role": "user", "content": "x" * (8 << 20)}]})
    for _ in range(3):
        assert raw(guarded, "POST", "/v1/chat/completions", body=body)[0] == 401


def test_a_keys_limit_in_a_minute(guarded):
    with as_owner(guarded, "secret-of-eve") as client:
        client.models.list()
        with pytest.raises(openai.RateLimitError) as raised:
            client.models.list()
    assert raised.value.code == "rate_limit_exceeded"
    assert 1 <= int(raised.value.response.headers["retry-after"]) <= 60


def test_a_keys_limit_at_once(guarded):
    endless = [{"role": "user", "content": "never stop"}]
    with as_owner(guarded, "secret-of-one") as client:
        with client.chat.completions.create(model="demo", messages=endless, stream=True) as stream:
            next(iter(stream))
            with pytest.raises(openai.RateLimitError):
                client.models.list()
    with as_owner(guarded, "secret-of-ada") as client:
        assert client.models.list().data
