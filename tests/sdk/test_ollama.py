"""The official Ollama client."""

import contextlib
import json
import time

import httpx
import ollama
import pytest

from serving import Server

BOTH = [{"role": "user", "content": "The weather in both towns, please."}]
THINK = [{"role": "user", "content": "Think first, then greet."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}, "metric": {"type": "boolean"}},
            "required": ["town", "metric"],
        },
    },
}
CALLED = [{"town": "L'Aquila", "metric": True}, {"town": "Köln", "metric": False}]
METRICS = [
    "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count",
    "eval_duration",
]


@contextlib.contextmanager
def client_of(server):
    client = ollama.Client(host=server.url)
    yield client
    client._client.close()


@pytest.fixture
def llama(server):
    with client_of(server) as client:
        yield client


def said(text):
    return [{"role": "user", "content": text}]


def test_a_chat_whole_and_in_lines(llama):
    whole = llama.chat("demo", said("Say grüße."), think=False)
    assert whole.message.role == "assistant" and whole.message.content == "Grüße aus Köln 😀"
    assert (whole.done, whole.done_reason, whole.model) == (True, "stop", "demo")
    assert whole.created_at.endswith("Z") and len(whole.created_at.split(".")[1]) == 10
    assert all(whole[name] > 0 for name in METRICS)
    lines = list(llama.chat("demo:latest", said("Say grüße."), think=False, stream=True))
    assert "".join(line.message.content for line in lines) == whole.message.content
    *pieces, last = lines
    assert not any(line.done or line.eval_count for line in pieces)
    assert last.done and last.message.content == "" and last.model == "demo:latest"
    assert last.prompt_eval_count == whole.prompt_eval_count and last.eval_count > 1


def test_thoughts(llama):
    whole = llama.chat("demo", THINK, think=True)
    assert (whole.message.thinking, whole.message.content) == ("They greet me.", "Hello!")
    # Where nothing is said a model that thinks does.
    assert llama.chat("demo", THINK).message.thinking == "They greet me."
    assert llama.chat("demo", THINK, think="low").message.thinking
    off = llama.chat("demo", THINK, think=False)
    assert off.message.thinking is None and "<think>" not in off.message.content
    lines = list(llama.generate("demo", "Think first, then greet.", stream=True))
    assert "".join(line.thinking or "" for line in lines) == "They greet me."
    assert "".join(line.response for line in lines) == "Hello!"


def test_the_loop_of_tools(llama):
    whole = llama.chat("demo", BOTH, tools=[TOOL], think=False)
    assert whole.done_reason == "stop" and whole.message.content.strip() == "Let me see."
    assert [call.function.arguments for call in whole.message.tool_calls] == CALLED
    lines = list(llama.chat("demo", BOTH, tools=[TOOL], think=False, stream=True))
    calls = [line.message.tool_calls for line in lines if line.message.tool_calls]
    # Each complete, and each in a line of its own.
    assert [[call.function.arguments for call in some] for some in calls] == [[it] for it in CALLED]
    assert lines[-1].done_reason == "stop" and not lines[-1].message.tool_calls
    # Home Assistant's way: results without ids and names, calls without ids.
    history = [
        *BOTH,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "get_weather", "arguments": it}} for it in CALLED],
        },
        {"role": "tool", "content": json.dumps({"sky": "clear"})},
        {"role": "tool", "content": json.dumps({"sky": "grey"})},
    ]
    final = llama.chat("demo", history, tools=[TOOL], think=False)
    assert final.message.content == "Sunny in L'Aquila, rain in Köln."
    # n8n's: with the tool's name. Open WebUI's: with ids.
    history[2]["tool_name"] = "get_weather"
    history[1]["tool_calls"][0]["id"] = "call_7"
    history[3]["tool_call_id"] = "call_7"
    assert llama.chat("demo", history, tools=[TOOL], think=False).message.content == final.message.content


def test_forms(llama):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    for form in ("json", schema):
        answer = llama.chat("demo", said("Ada as JSON."), format=form)
        value = json.loads(answer.message.content)
        assert value["name"] == "Ada" and value["age"] == 36
    answer = llama.generate("demo", "never as JSON", format=schema, think=False)
    assert set(json.loads(answer.response)) >= {"name", "age"}


def test_a_prompt_raw_and_gone_on_from(llama):
    raw = llama.generate("demo", "Once upon a", raw=True, options={"num_predict": 4})
    assert raw.response.startswith(" time") and raw.done_reason == "length"
    assert raw.eval_count == 4 and raw.context is None
    first = llama.generate("demo", "Say grüße.", system="Be brief.", think=False)
    assert first.response == "Grüße aus Köln 😀" and len(first.context) > first.eval_count
    second = llama.generate("demo", "And again.", context=first.context, think=False)
    assert second.prompt_eval_count > len(first.context)
    assert second.context[: len(first.context)] == first.context


def test_vectors(llama):
    def dot(left, right):
        return sum(a * b for a, b in zip(left, right, strict=True))

    texts = ["The cat sat on the mat.", "", "Neural processing units"]
    many = llama.embed("demo", texts)
    assert len(many.embeddings) == 3 and many.prompt_eval_count > 5 and many.total_duration > 0
    assert all(dot(vector, vector) == pytest.approx(1, abs=1e-5) for vector in many.embeddings)
    assert llama.embed("demo", texts[0]).embeddings[0] == pytest.approx(many.embeddings[0])
    assert llama.embeddings("demo", texts[0]).embedding == pytest.approx(many.embeddings[0])
    few = llama.embed("demo", texts[0], dimensions=4).embeddings[0]
    assert len(few) == 4 and dot(few, few) == pytest.approx(1, abs=1e-5)
    assert llama.embed("demo", []).embeddings == []
    assert llama.embeddings("demo", "").embedding == []
    assert len(llama.embed("demo", "word " * 9000).embeddings) == 1
    with pytest.raises(ollama.ResponseError) as refused:
        llama.embed("demo", "word " * 9000, truncate=False)
    assert (refused.value.status_code, refused.value.error) == (
        400, "the input length exceeds the context length",
    )


def test_lists_and_descriptions(llama):
    (model,) = llama.list().models
    assert model.model == "demo:latest" and len(model.digest) == 64 and model.size > 0
    assert model.details.format == "rkllm" and model.details.families and model.modified_at
    shown = llama.show("demo")
    assert shown.capabilities[0] == "completion" and {"tools", "thinking"} <= set(shown.capabilities)
    assert ".Tools" in shown.template and shown.modelinfo["general.architecture"]
    contexts = [value for key, value in shown.modelinfo.items() if key.endswith(".context_length")]
    assert contexts == [4096] and "num_ctx" in shown.parameters
    llama.generate("demo", "", keep_alive=-1)
    (loaded,) = llama.ps().models
    assert loaded.model == "demo:latest" and loaded.digest == model.digest
    assert loaded.expires_at.year > 2200 and loaded.size_vram == loaded.size
    assert loaded.context_length == 4096


def test_loading_and_unloading(tmp_path):
    server = Server(tmp_path)
    try:
        with client_of(server) as llama:
            load_and_unload(llama)
    finally:
        server.stop()


def until_nothing_is_loaded(llama):
    """A model leaves after its answer, not before."""
    deadline = time.monotonic() + 30
    while llama.ps().models:
        assert time.monotonic() < deadline, "the model stays"


def load_and_unload(llama):
    assert llama.ps().models == []
    loaded = llama.generate("demo")
    assert (loaded.done, loaded.done_reason, loaded.response) == (True, "load", "")
    assert len(llama.ps().models) == 1
    assert llama.chat("demo", [], keep_alive=0).done_reason == "unload"
    until_nothing_is_loaded(llama)
    # Unloading what is not loaded is no error, and a request can say that it is the last.
    assert llama.generate("demo", keep_alive="0s").done_reason == "unload"
    llama.chat("demo", said("Hi"), keep_alive=0)
    until_nothing_is_loaded(llama)


@pytest.mark.parametrize(
    ("ask", "status", "words"),
    [
        (lambda it: it.chat("nope", said("x")), 404, "model 'nope' not found"),
        (lambda it: it.generate("nope", "x"), 404, "model 'nope' not found"),
        (lambda it: it.embed("nope", "x"), 404, 'model "nope" not found, try pulling it first'),
        (lambda it: it.show("nope"), 404, "model 'nope:latest' not found"),
        (lambda it: it.chat("a b", said("x")), 400, "invalid model name"),
        (
            lambda it: it.generate("demo", "x", raw=True, system="s"),
            400,
            "raw mode does not support template, system, or context",
        ),
        (
            lambda it: it.generate("demo", "x", suffix="y"),
            400,
            "registry.ollama.ai/library/demo:latest does not support insert",
        ),
        (
            lambda it: it.chat("demo", said("x"), options={"temperature": "hot"}),
            400,
            'option "temperature" must be of type float32',
        ),
        (lambda it: it.chat("demo", said("word " * 9000), options={"num_ctx": 128}), 400, "longer"),
        (lambda it: it.generate("demo", "fail at once"), 500, "encountered while running"),
    ],
)
def test_errors(llama, ask, status, words):
    with pytest.raises(ollama.ResponseError) as refused:
        ask(llama)
    assert refused.value.status_code == status and words in refused.value.error


def test_an_error_in_the_middle_is_the_last_line(llama, server):
    heard = ""
    with pytest.raises(ollama.ResponseError) as broken:
        for line in llama.chat("demo", said("fail in the middle"), think=False, stream=True):
            heard += line.message.content
    assert heard.startswith("one") and "encountered while running" in broken.value.error
    request = {"model": "demo", "prompt": "fail in the middle", "think": False}
    text = httpx.post(f"{server.url}/api/generate", json=request, timeout=60).text
    *lines, end = text.split("\n")
    assert end == "" and all(lines) and list(json.loads(lines[-1])) == ["error"]
    assert not any("done_reason" in json.loads(line) for line in lines)


def test_the_oldest_messages_make_room(llama):
    old = [{"role": "user", "content": "word " * 1800}, {"role": "assistant", "content": "Yes."}]
    messages = [{"role": "system", "content": "Be brief."}, *old, *old, *old, *said("Say grüße.")]
    answer = llama.chat("demo", messages, think=False, options={"num_ctx": 8192.0})
    assert answer.message.content == "Grüße aus Köln 😀"
    assert 1800 < answer.prompt_eval_count < 4096
    with pytest.raises(ollama.ResponseError) as refused:
        request = {"model": "demo", "messages": messages, "truncate": False, "stream": False}
        llama._request_raw("POST", "/api/chat", json=request)
    assert refused.value.status_code == 400 and "context" in refused.value.error


def test_what_clients_send_besides(server):
    """Options of older releases, fields of no release, names in another case, bytes behind the request."""
    body = json.dumps(
        {
            "MODEL": "demo", "Messages": said("Say grüße."), "stream": False, "think": False,
            "metadata": {"chat_id": "x"}, "tools": [], "format": None, "keep_alive": "5m",
            "options": {"mirostat": 2, "low_vram": True, "num_ctx": 8192, "top_k": -1, "seed": 7},
        }
    )
    for headers in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
        answer = httpx.post(
            f"{server.url}/api/chat", content=f"{body} and more", headers=headers, timeout=60
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["message"]["content"] == "Grüße aus Köln 😀"


def test_a_client_that_leaves_frees_the_npu(llama):
    lines = llama.chat("demo", said("never stop"), think=False, stream=True)
    assert next(lines).message.content
    lines.close()
    assert llama.chat("demo", said("Say grüße."), think=False).done_reason == "stop"


def test_versions(server):
    """Open WebUI wants numbers, Copilot at least 0.6.4."""
    version = httpx.get(f"{server.url}/api/version").json()["version"]
    assert tuple(map(int, version.split("."))) >= (0, 6, 4)
    for method in ("GET", "HEAD"):
        assert httpx.request(method, f"{server.url}/").status_code == 200
    assert httpx.get(f"{server.url}/").json()["status"] == "Ollama is running"
