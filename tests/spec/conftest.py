"""A server on the ports that the guides name, which answers whatever model is asked for."""

import json
import pathlib
import subprocess

import openai
import pytest

from hub import Hub, demo
from serving import Server

PORTS = (8000, 8080, 11434)
# The models of the guides: Ollama's routes know no fallback.
ALIASES = [
    "llama2", "codellama", "codellama:7b", "codellama:7b-code", "nomic-embed-text", "qwen2.5:3b",
    "Qwen3-Embedding-0.6B_W8A8_RK3588", "model1.rkllm",
]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    hub = Hub({"username/repo": demo("file.rkllm")})
    server = Server(
        tmp_path_factory.mktemp("server"),
        listen=[f"127.0.0.1:{port}" for port in PORTS],
        script=pathlib.Path(__file__).with_name("script.toml"),
        aliases=ALIASES,
        RKLLAMA_FALLBACK__CHAT="demo",
        RKLLAMA_FALLBACK__EMBED="demo",
        RKLLAMA_HUB__ENDPOINT=hub.url,
        RKLLAMA_DEBUG="true",
    )
    yield server
    server.stop()
    hub.stop()


@pytest.fixture
def client(server):
    with openai.OpenAI(
        base_url="http://localhost:8000/v1", api_key="not-needed", max_retries=0
    ) as client:
        yield client


@pytest.fixture
def curl(server):
    """Runs a line of curl as the guides write it, and gives what it printed."""

    def run(url, body=None, *, method=None, kind="application/json"):
        words = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60", url]
        if method is not None:
            words += ["-X", method]
        if body is not None and kind is not None:
            words += ["-H", f"Content-Type: {kind}"]
        if body is not None:
            words += ["-d", json.dumps(body)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
