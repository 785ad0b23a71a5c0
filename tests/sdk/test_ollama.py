"""The official Ollama client: answers whole and streamed, tools, thoughts, forms, vectors, lists, errors."""

import asyncio
import datetime
import json
import re
import time

import ollama
import pytest

from serving import Server

QUESTION = [{"role": "user", "content": "What is an NPU?"}]
BOTH = [{"role": "user", "content": "The weather in both towns, please."}]
THINK = [{"role": "user", "content": "Think first, then greet."}]
ENDLESS = [{"role": "user", "content": "never stop"}]
CALLED = [{"town": "L'Aquila", "metric": True}, {"town": "Köln", "metric": False}]
SUNNY = "Sunny in L'Aquila, rain in Köln."
GREEDY = {"temperature": 0}
METRICS = [
    "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count",
    "eval_duration",
]
VERDICT = {
    "type": "object",
    "properties": {"verdict": {"enum": ["good", "bad"]}},
    "required": ["verdict"],
    "additionalProperties": False,
}


def get_weather(town: str, metric: bool) -> str:
    """The weather in a town.

    Args:
        town: Which town.
        metric: Whether in degrees Celsius.
    """
    return f"clear in {town}"


@pytest.fixture
def client(server):
    with ollama.Client(host=server.url) as client:
        yield client


@pytest.fixture
def alone(tmp_path):
    """A client on a server of its own, where nobody else loads anything."""
    server = Server(tmp_path)
    with ollama.Client(host=server.url) as client:
        yield client
    server.stop()


def ask(client, messages, **fields):
    """Without thoughts, which the demo model's language model would have about anything."""
    return client.chat(**{"model": "demo", "messages": messages, "think": False, **fields})


def words(parts):
    return "".join(part.message.content for part in parts)


def assert_done(last, reason):
    assert (last.done, last.done_reason) == (True, reason)
    assert all(last[name] > 0 for name in METRICS)
    assert last.total_duration >= last.prompt_eval_duration + last.eval_duration


def test_a_chat_is_the_same_whole_and_streamed(client):
    whole = ask(client, QUESTION, options=GREEDY)
    assert whole.model == "demo" and whole.message.role == "assistant" and whole.message.content
    assert_done(whole, "stop")
    *parts, last = ask(client, QUESTION, options=GREEDY, stream=True)
    assert len(parts) > 3 and words(parts) == whole.message.content
    assert {part.done for part in parts} == {False}
    assert {part.message.role for part in [*parts, last]} == {"assistant"}
    assert last.message.content == "" and last.eval_count == whole.eval_count
    assert_done(last, "stop")


def test_the_moment_is_utc_and_has_a_fraction(client):
    before = datetime.datetime.now(datetime.UTC)
    created = ask(client, QUESTION).created_at
    after = datetime.datetime.now(datetime.UTC)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", created)
    assert before <= datetime.datetime.fromisoformat(created) <= after


def test_bytes_of_one_character_in_several_tokens(client):
    question = [{"role": "user", "content": "Say grüße"}]
    assert words(ask(client, question, stream=True)) == "Grüße aus Köln 😀"


def test_options_limit_the_answer(client):
    cut = ask(client, QUESTION, options={**GREEDY, "num_predict": 3})
    assert (cut.done_reason, cut.eval_count) == ("length", 3)
    whole = ask(client, QUESTION, options=GREEDY).message.content
    word = whole.split()[3]
    stopped = ask(client, QUESTION, options={**GREEDY, "stop": [word]})
    assert stopped.message.content == whole[: whole.index(word)]
    assert stopped.done_reason == "stop"


def test_options_without_a_knob_change_nothing(client):
    whole = ask(client, QUESTION, options=GREEDY).message.content
    for options in [
        {"num_ctx": 8192}, {"num_ctx": 128}, {"num_ctx": 8192.0}, {"mirostat": 1, "tfs_z": 0.5},
        {"seed": 7}, {"low_vram": True, "num_gpu": 1, "unheard_of": [1]}, {"top_k": None},
    ]:
        assert ask(client, QUESTION, options={**GREEDY, **options}).message.content == whole
    assert {model.context_length for model in client.ps().models} == {4096}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_loop_of_tools_comes_to_its_end(client, stream):
    answer = ask(client, BOTH, tools=[get_weather], stream=stream)
    parts = list(answer) if stream else [answer]
    assert words(parts).strip() == "Let me see."
    calls = [call for part in parts for call in part.message.tool_calls or []]
    assert [call.function.name for call in calls] == ["get_weather", "get_weather"]
    assert [call.function.arguments for call in calls] == CALLED
    assert parts[-1].done_reason == "stop"
    if stream:
        # Each call is complete and in a line of its own; the last line has none.
        assert all(len(part.message.tool_calls or []) <= 1 for part in parts)
        assert parts[-1].message.tool_calls is None
    said = {"role": "assistant", "content": words(parts), "tool_calls": calls}
    for named in [True, False]:
        results = [
            {"role": "tool", "content": get_weather(**call.function.arguments)}
            | ({"tool_name": call.function.name} if named else {})
            for call in calls
        ]
        final = ask(client, [*BOTH, said, *results], tools=[get_weather])
        assert final.message.content == SUNNY and not final.message.tool_calls


def test_a_message_of_the_client_goes_back_as_it_came(client):
    answer = ask(client, BOTH, tools=[get_weather])
    result = {"role": "tool", "content": "clear", "tool_name": "get_weather"}
    assert ask(client, [*BOTH, answer.message, result, result]).message.content == SUNNY


def test_thoughts_are_told_apart(client):
    for think in [None, True, "low", "high"]:
        message = client.chat("demo", THINK, think=think).message
        assert (message.content, message.thinking) == ("Hello!", "They greet me.")
    *parts, last = client.chat("demo", THINK, stream=True)
    assert words(parts) == "Hello!"
    assert "".join(part.message.thinking or "" for part in parts) == "They greet me."
    assert not any(part.message.thinking and part.message.content for part in parts)
    assert last.message.thinking is None and last.done_reason == "stop"
    assert client.generate("demo", THINK[0]["content"]).thinking == "They greet me."


def test_no_thoughts_where_none_are_wanted(client):
    message = client.chat("demo", THINK, think=False).message
    assert (message.content, message.thinking) == ("Hello!", None)
    *parts, _ = client.chat("demo", THINK, think=False, stream=True)
    assert words(parts) == "Hello!" and not any(part.message.thinking for part in parts)


@pytest.mark.parametrize("think", [False, True], ids=["no thoughts", "thoughts"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_rambling_model_is_held_to_the_schema(client, think, stream):
    """The language model of the mock speaks of chips, not in JSON."""
    answer = ask(client, QUESTION, format=VERDICT, think=think, stream=stream)
    parts = list(answer) if stream else [answer]
    assert json.loads(words(parts))["verdict"] in ("good", "bad")
    assert parts[-1].done_reason == "stop"
    said = client.generate("demo", "What is an NPU?", format=VERDICT, think=think).response
    assert json.loads(said)["verdict"] in ("good", "bad")


def test_json_mode_gives_an_object(client):
    person = [{"role": "user", "content": "Ada as JSON."}]
    answer = ask(client, person, format="json")
    assert answer.done_reason == "stop"
    assert isinstance(json.loads(answer.message.content), dict)


def test_generate_is_the_same_whole_and_streamed(client):
    whole = client.generate("demo", "What is an NPU?", think=False, options=GREEDY)
    assert_done(whole, "stop")
    assert whole.response == ask(client, QUESTION, options=GREEDY).message.content
    *parts, last = client.generate(
        "demo", "What is an NPU?", think=False, options=GREEDY, stream=True
    )
    assert "".join(part.response for part in parts) == whole.response
    assert last.response == "" and last.context == whole.context
    assert not any(part.done or part.context for part in parts)
    assert_done(last, "stop")


def test_a_raw_prompt_goes_as_it_is(client):
    answer = client.generate("demo", "Once upon a", raw=True)
    assert answer.response == " time there was a chip." and answer.context is None
    # The beginning of every text, and three words.
    assert answer.prompt_eval_count < 5


def test_instructions_stand_in_front_of_the_prompt(client):
    bare = client.generate("demo", "What is an NPU?", think=False)
    system = client.generate("demo", "What is an NPU?", system="Be brief.", think=False)
    said = ask(client, [{"role": "system", "content": "Be brief."}, *QUESTION])
    assert system.prompt_eval_count == said.prompt_eval_count
    assert system.prompt_eval_count > bare.prompt_eval_count


def test_a_context_is_gone_on_from(client):
    first = client.generate("demo", "My name is Ada.", think=False, options=GREEDY)
    assert len(first.context) >= first.prompt_eval_count
    second = client.generate("demo", "What is an NPU?", think=False, context=first.context)
    assert second.context[: len(first.context)] == list(first.context)
    assert second.prompt_eval_count > len(first.context)


def test_vectors(client):
    near, also, far = client.embed(
        "demo",
        ["The cat sat on the mat.", "The cat sat on a mat.", "Neural processing units of boards"],
    ).embeddings
    assert dot(near, near) == pytest.approx(1, abs=1e-5)
    assert dot(near, also) > dot(near, far) + 0.2
    one = client.embed("demo", "The cat sat on the mat.")
    assert one.model == "demo" and one.embeddings == [near]
    assert one.prompt_eval_count > 3 and one.total_duration > 0 and one.load_duration > 0
    assert client.embeddings("demo", "The cat sat on the mat.").embedding == near


def dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_dimensions_are_the_first_ones(client):
    (whole,) = client.embed("demo", "hello").embeddings
    (few,) = client.embed("demo", "hello", dimensions=8).embeddings
    length = dot(whole[:8], whole[:8]) ** 0.5
    assert few == pytest.approx([value / length for value in whole[:8]], abs=1e-6)
    for more in [len(whole), len(whole) + 1, 0]:
        assert client.embed("demo", "hello", dimensions=more).embeddings == [whole]


def test_an_empty_text_among_others_costs_them_nothing(client):
    answer = client.embed("demo", ["", "hello"])
    assert len(answer.embeddings) == 2
    assert answer.embeddings[1] == client.embed("demo", "hello").embeddings[0]
    for nothing in ["", []]:
        assert client.embed("demo", nothing).embeddings == []
    assert client.embeddings("demo", "").embedding == []


def test_a_text_that_is_too_long_is_cut_or_refused(client):
    assert client.embed("demo", "x " * 5000).prompt_eval_count == 4096 - 32
    with pytest.raises(ollama.ResponseError) as refused:
        client.embed("demo", ["fine", "x " * 5000], truncate=False)
    assert refused.value.status_code == 400
    assert refused.value.error == "the input length exceeds the context length"


def test_lists(client):
    (listed,) = client.list().models
    assert listed.model == "demo:latest" and listed.size > 0
    assert re.fullmatch("[0-9a-f]{64}", listed.digest)
    assert listed.modified_at <= datetime.datetime.now(datetime.UTC)
    assert listed.details.format == "rkllm" and listed.details.families
    assert listed.details.parameter_size and listed.details.quantization_level
    for name in ["demo", "demo:latest", "DEMO", " demo ", "registry.ollama.ai/library/demo:latest"]:
        shown = client.show(name)
        assert {"completion", "tools", "thinking"} <= set(shown.capabilities)
        assert "tools" in shown.template and shown.modelinfo["general.architecture"]
        architecture = shown.modelinfo["general.architecture"]
        assert shown.modelinfo[f"{architecture}.context_length"] == 4096
        for line in shown.parameters.splitlines():
            assert re.fullmatch(r'(\S+)\s+((?:".*")|\S+)', line)
        assert shown.modified_at == listed.modified_at


def test_models_come_and_go(alone):
    assert alone.ps().models == []
    loaded = alone.generate("demo")
    assert (loaded.response, loaded.done, loaded.done_reason) == ("", True, "load")
    assert loaded.total_duration is None
    (process,) = alone.ps().models
    assert process.model == process.name == "demo:latest"
    assert process.digest == alone.list().models[0].digest
    assert process.size == process.size_vram > 0 and process.context_length == 4096
    stays(alone, pytest.approx(5, abs=0.2))
    for keep_alive, minutes in [("30m", 30), (600, 10), (90.0, 1.5), ("1h30m", 90), ("120", 2)]:
        assert alone.chat("demo", keep_alive=keep_alive).done_reason == "load"
        stays(alone, pytest.approx(minutes, abs=0.2))
    for keep_alive in [-1, "-1", "-1m"]:
        alone.embed("demo", "hello", keep_alive=keep_alive)
        stays(alone, pytest.approx(292 * 365 * 24 * 60, rel=0.01))
    for unload in [
        lambda: alone.generate("demo", keep_alive=0),
        lambda: alone.chat("demo", keep_alive="0s"),
    ]:
        assert unload().done_reason == "unload"
        # What loads it again waits until it has gone.
        assert alone.generate("demo", keep_alive="7m").done_reason == "load"
        stays(alone, pytest.approx(7, abs=0.2))


def stays(client, minutes):
    """Waits until the model is to stay so long: a moment ago it may still have been at work."""
    deadline = time.monotonic() + 30
    while True:
        (process,) = client.ps().models
        left = process.expires_at - datetime.datetime.now(datetime.UTC)
        if left.total_seconds() / 60 == minutes:
            return
        assert time.monotonic() < deadline, f"{left} instead of {minutes} minutes"


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        (lambda c: c.chat("absent", QUESTION), 404, "model 'absent' not found"),
        (lambda c: c.generate("absent", "x"), 404, "model 'absent' not found"),
        (lambda c: c.show("absent"), 404, "model 'absent:latest' not found"),
        (lambda c: c.embed("absent", "x"), 404, 'model "absent" not found, try pulling it first'),
        (lambda c: c.embeddings("absent", "x"), 404, 'model "absent" not found, try pulling it first'),
        (lambda c: c.chat("a b", QUESTION), 400, "invalid model name"),
        (
            lambda c: c.generate("demo", "def f(", suffix="return 1"),
            400,
            "registry.ollama.ai/library/demo:latest does not support insert",
        ),
        (
            lambda c: c.generate("demo", "x", raw=True, system="y"),
            400,
            "raw mode does not support template, system, or context",
        ),
        (
            lambda c: c.chat("demo", QUESTION, options={"temperature": "hot"}),
            400,
            'option "temperature" must be of type float32',
        ),
        (
            lambda c: c.chat("demo", QUESTION, keep_alive="1d"),
            400,
            'time: unknown unit "d" in duration "1d"',
        ),
        (
            lambda c: c.chat("demo", [{"role": "user", "content": "x", "images": [b"png"]}]),
            400,
            '"demo" does not support vision',
        ),
    ],
)
def test_mistakes_are_response_errors(client, call, status, text):
    with pytest.raises(ollama.ResponseError) as refused:
        call(client)
    assert (refused.value.status_code, refused.value.error) == (status, text)


def test_a_failure_before_the_first_word_has_a_status(client):
    for stream in [False, True]:
        with pytest.raises(ollama.ResponseError) as failed:
            list(ask(client, [{"role": "user", "content": "fail at once"}], stream=stream))
        assert failed.value.status_code == 500
        assert failed.value.error.startswith(
            "an error was encountered while running the model: "
        )


def test_a_failure_in_the_middle_ends_the_stream_with_its_words(client):
    parts = []
    with pytest.raises(ollama.ResponseError) as failed:
        parts.extend(
            ask(client, [{"role": "user", "content": "fail in the middle"}], stream=True)
        )
    assert failed.value.status_code == -1
    assert failed.value.error.startswith("an error was encountered while running the model: ")
    assert ask(client, QUESTION).message.content


def test_who_leaves_in_the_middle_frees_the_model(tmp_path):
    """At the demo model's own speed, where an endless answer lasts for minutes."""
    server = Server(tmp_path, MOCK_NPU_SCALE="1")
    with ollama.Client(host=server.url) as client:
        stream = ask(client, ENDLESS, stream=True)
        assert next(part.message.content for part in stream if part.message.content)
        stream.close()
        assert ask(client, QUESTION, options={"num_predict": 2}).eval_count == 2
    assert "rkllm_abort" in server.trace.read_text()
    server.stop()


def test_the_async_client(server):
    async def all_at_once():
        async with ollama.AsyncClient(host=server.url) as client:
            answers = await asyncio.gather(
                *(ask(client, BOTH, tools=[get_weather]) for _ in range(3))
            )
            stream = await ask(client, THINK, stream=True)
            return answers, "".join([part.message.content async for part in stream])

    answers, streamed = asyncio.run(all_at_once())
    for answer in answers:
        assert [call.function.arguments for call in answer.message.tool_calls] == CALLED
    assert streamed == "Hello!"
