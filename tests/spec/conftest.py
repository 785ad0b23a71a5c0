"""A server on the ports that the guides name, which answers whatever model is asked for."""

import json
import pathlib
import subprocess

import openai
import pytest

from serving import Server

PORTS = (8000, 8080, 11434)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(
        tmp_path_factory.mktemp("server"),
        listen=[f"127.0.0.1:{port}" for port in PORTS],
        script=pathlib.Path(__file__).with_name("script.toml"),
        RKLLAMA_FALLBACK__CHAT="demo",
        RKLLAMA_FALLBACK__EMBED="demo",
    )
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with openai.OpenAI(
        base_url="http://localhost:8000/v1", api_key="not-needed", max_retries=0
    ) as client:
        yield client


@pytest.fixture
def curl(server):
    """Runs a line of curl as the guides write it, and gives what it printed."""

    def run(url, body=None):
        words = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60", url]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
