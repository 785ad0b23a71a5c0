"""A server on the mock runtime for the official clients.

RKLLAMA_BIN and MOCK_NPU_LIBS say where the executable and the mock libraries lie; `ci/test sdk` sets
both.
"""

import os
import pathlib
import re
import shutil
import subprocess

import openai
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

SCRIPT = """
[[rule]]
user_contains = "say grüße"
say = "Grüße aus Köln 😀"
split_utf8 = true

[[rule]]
user_contains = "fail at once"
say = "never heard"
fail_at_token = 0

[[rule]]
user_contains = "fail in the middle"
say = "one two three four five six seven eight nine ten"
fail_at_token = 5

[[rule]]
user_contains = "weather in both towns"
after_tool = false
say = "Let me see. "
tool_call = [
    { name = "get_weather", arguments = { town = "L'Aquila", metric = true } },
    { name = "get_weather", arguments = { town = "Köln", metric = false } },
]

[[rule]]
# The template writes results of tools as a turn of the user.
prompt_contains = "weather in both towns"
after_tool = true
say = "Sunny in L'Aquila, rain in Köln."

[[rule]]
user_contains = "weather in Ulm"
tool_call = { name = "get_weather", arguments = { town = "Ulm", metric = true } }

[[rule]]
user_contains = "think first"
think = "They greet me."
say = "Hello!"

[[rule]]
user_contains = "as JSON"
say = '{"name": "Ada", "age": 36, "tags": ["a", "b"]}'

[[rule]]
prompt_contains = "Once upon a"
say = " time there was a chip."

[[rule]]
user_contains = "never stop"
say = "again and "
repeat = 3
no_eos = true
"""


class Server:
    """`variables` are further ones of the environment: configuration, and the mock's own."""

    def __init__(self, directory: pathlib.Path, **variables: str):
        models = directory / "models"
        shutil.copytree(REPOSITORY / "mock-npu" / "demo", models / "demo")
        script = directory / "script.toml"
        script.write_text(SCRIPT, encoding="utf-8")
        self.trace = directory / "trace.jsonl"
        libraries = pathlib.Path(os.environ["MOCK_NPU_LIBS"])
        self.process = subprocess.Popen(
            [
                os.environ["RKLLAMA_BIN"], "serve", "--listen", "127.0.0.1:0",
                "--models", models, "--runtime", libraries / "1.3.0" / "librkllmrt.so",
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(directory),
                "MOCK_NPU_SCALE": "0",
                "MOCK_NPU_SCRIPT": str(script),
                "MOCK_NPU_TRACE": str(self.trace),
                **variables,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        found = re.search(r"listening on (http://\S+)", line)
        assert found, f"the server did not start: {line!r}"
        self.url = found[1]

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=30) == 0
        self.process.stdout.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def client(server):
    """No retries: a request that fails must be seen to fail."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client
