"""The official Anthropic client, and Claude Code's way of asking."""

import json

import anthropic
import pytest

BOTH = [{"role": "user", "content": "The weather in both towns, please."}]
ULM = [{"role": "user", "content": "The weather in Ulm, please."}]
THINK = [{"role": "user", "content": "Think first, then greet."}]
TOOL = {
    "name": "get_weather",
    "description": "The weather in a town.",
    "input_schema": {
        "type": "object",
        "properties": {"town": {"type": "string"}, "metric": {"type": "boolean"}},
        "required": ["town", "metric"],
        "additionalProperties": False,
    },
}
CALLED = [{"town": "L'Aquila", "metric": True}, {"town": "Köln", "metric": False}]
THINKING = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture
def claude(server):
    with anthropic.Anthropic(base_url=server.url, api_key="unused", max_retries=0) as client:
        yield client


def ask(claude, **fields):
    return claude.messages.create(**{"model": "demo", "max_tokens": 512, **fields})


def said(text):
    return [{"role": "user", "content": text}]


def test_an_answer(claude):
    answer = ask(claude, messages=said("Say grüße."))
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", "demo")
    assert [block.type for block in answer.content] == ["text"]
    assert answer.content[0].text == "Grüße aus Köln 😀"
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert answer.id.startswith("msg_")
    usage = answer.usage
    assert usage.input_tokens + usage.cache_read_input_tokens > 5 and usage.output_tokens > 3


def test_a_stream_is_the_same_answer(claude):
    with claude.messages.stream(model="demo", max_tokens=64, messages=said("Say grüße.")) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == "Grüße aus Köln 😀"
    assert final.stop_reason == "end_turn" and final.usage.output_tokens > 3
    again = ask(claude, messages=said("Say grüße."))
    whole = again.usage.input_tokens + again.usage.cache_read_input_tokens
    assert final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0) == whole


def test_every_event_in_its_place(claude):
    events = list(ask(claude, messages=THINK, thinking=THINKING, stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    assert events[0].message.usage.input_tokens > 0 and events[0].message.content == []
    open_block = None
    blocks = []
    for event in events[1:-2]:
        if event.type == "content_block_start":
            assert open_block is None and event.index == len(blocks)
            open_block = event.index
            blocks.append([event.content_block.type, ""])
        elif event.type == "content_block_delta":
            assert event.index == open_block
            blocks[-1][1] += getattr(event.delta, "thinking", "") or getattr(event.delta, "text", "")
        else:
            assert event.type == "content_block_stop" and event.index == open_block
            open_block = None
    assert blocks == [["thinking", "They greet me."], ["text", "Hello!"]]


def test_thoughts_are_shown_to_those_who_want_them(claude):
    answer = ask(claude, messages=THINK, thinking=THINKING)
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert answer.content[0].thinking == "They greet me."
    for fields in ({}, {"thinking": {"type": "disabled"}}):
        answer = ask(claude, messages=THINK, **fields)
        assert [block.type for block in answer.content] == ["text"]
        assert "<think>" not in answer.content[0].text


def test_the_loop_of_tools(claude):
    answer = ask(claude, messages=BOTH, tools=[TOOL])
    assert answer.stop_reason == "tool_use"
    text, *calls = answer.content
    assert text.text.strip() == "Let me see."
    assert [call.input for call in calls] == CALLED
    assert len({call.id for call in calls}) == 2
    results = [
        {"type": "tool_result", "tool_use_id": calls[0].id, "content": "sunny"},
        {
            "type": "tool_result",
            "tool_use_id": calls[1].id,
            "content": [{"type": "text", "text": "rain"}],
            "is_error": False,
        },
        {"type": "text", "text": "Go on."},
    ]
    history = [*BOTH, {"role": "assistant", "content": answer.content}]
    final = ask(claude, messages=[*history, {"role": "user", "content": results[:2]}], tools=[TOOL])
    assert final.content[0].text == "Sunny in L'Aquila, rain in Köln."
    assert final.stop_reason == "end_turn"
    # Results and words in one message.
    ask(claude, messages=[*history, {"role": "user", "content": results}], tools=[TOOL])


def test_calls_come_in_pieces_and_join(claude):
    with claude.messages.stream(
        model="demo", max_tokens=512, messages=BOTH, tools=[TOOL]
    ) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert len(pieces) > 4
    assert [block.input for block in final.content if block.type == "tool_use"] == CALLED
    assert final.stop_reason == "tool_use"


@pytest.mark.parametrize("stream", [False, True])
def test_tool_choice(claude, stream):
    def calls(**choice):
        fields = {"messages": BOTH, "tools": [TOOL], "tool_choice": choice}
        if not stream:
            answer = ask(claude, **fields)
        else:
            with claude.messages.stream(model="demo", max_tokens=512, **fields) as events:
                answer = events.get_final_message()
        found = [block for block in answer.content if block.type == "tool_use"]
        assert (answer.stop_reason == "tool_use") == bool(found)
        return [call.input for call in found]

    assert calls(type="auto", disable_parallel_tool_use=True) == CALLED[:1]
    assert calls(type="none") == []
    assert len(calls(type="any")) >= 1
    assert len(calls(type="tool", name="get_weather")) == 1


def test_stop_sequences(claude):
    answer = ask(claude, messages=said("Say grüße."), stop_sequences=["Köln", "never"])
    assert answer.content[0].text == "Grüße aus "
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "Köln")


def test_max_tokens(claude):
    answer = ask(claude, messages=said("never stop"), max_tokens=3)
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 3)


def test_a_form(claude):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    form = {"format": {"type": "json_schema", "schema": schema}}
    answer = ask(claude, messages=said("Ada as JSON."), output_config=form)
    value = json.loads(answer.content[0].text)
    assert value["name"] == "Ada" and value["age"] == 36


def test_system_blocks_and_the_assistants_beginning(claude):
    system = [
        {"type": "text", "text": "You are short.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "And polite."},
    ]
    messages = [*said("Say grüße."), {"role": "assistant", "content": "Grüße"}]
    answer = ask(claude, system=system, messages=messages)
    assert answer.stop_reason == "end_turn"


def test_counting(claude):
    few = claude.messages.count_tokens(model="demo", messages=said("Hi"))
    more = claude.messages.count_tokens(model="demo", messages=said("Hi"), tools=[TOOL])
    assert 0 < few.input_tokens < more.input_tokens
    answer = ask(claude, messages=said("Hi"))
    used = answer.usage.input_tokens + answer.usage.cache_read_input_tokens
    assert few.input_tokens == used
    # Longer than the context is a number too.
    long = claude.messages.count_tokens(model="demo", messages=said("word " * 9000))
    assert long.input_tokens > 4096


def test_errors(claude):
    for fields, error, words in [
        ({"model": "nobody"}, anthropic.NotFoundError, "model: nobody"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens"),
        ({"messages": []}, anthropic.BadRequestError, "messages"),
        ({"extra_body": {"temperature": 3.0}}, anthropic.BadRequestError, "temperature"),
        ({"messages": said("word " * 9000)}, anthropic.BadRequestError, "prompt is too long"),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            anthropic.BadRequestError,
            "tools.0.type",
        ),
        ({"tool_choice": {"type": "any"}}, anthropic.BadRequestError, "tool_choice"),
        ({"messages": said("fail at once")}, anthropic.InternalServerError, ""),
    ]:
        with pytest.raises(error) as refused:
            ask(claude, **{"messages": said("Hi"), **fields})
        body = refused.value.body
        assert body["type"] == "error" and words in body["error"]["message"], body


def test_an_error_in_the_middle_is_raised(claude):
    with pytest.raises(anthropic.APIStatusError) as broken:
        with claude.messages.stream(
            model="demo", max_tokens=64, messages=said("fail in the middle")
        ) as stream:
            heard = ""
            for text in stream.text_stream:
                heard += text
    assert heard.startswith("one") and broken.value.body["error"]["type"] == "api_error"


def test_a_client_that_leaves_frees_the_npu(claude):
    with claude.messages.stream(
        model="demo", max_tokens=4000, messages=said("never stop")
    ) as stream:
        next(iter(stream.text_stream))
    assert ask(claude, messages=said("Say grüße.")).stop_reason == "end_turn"


def test_as_claude_code_asks(server):
    """A bearer token, beta headers, fields of later versions, and a model's name that is baked in."""
    with anthropic.Anthropic(
        base_url=server.url,
        auth_token="unused",
        max_retries=0,
        default_headers={"anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14"},
    ) as claude:
        answer = claude.with_options(timeout=60).post(
            "/v1/messages?beta=true",
            cast_to=anthropic.types.Message,
            body={
                "model": "demo",
                "max_tokens": 256,
                "metadata": {"user_id": "user_0"},
                "system": [{"type": "text", "text": "You are Claude Code."}],
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "<system-reminder>Be brief.</system-reminder>"},
                            {
                                "type": "text",
                                "text": "Say grüße.",
                                "cache_control": {"type": "ephemeral"},
                            },
                        ],
                    }
                ],
                "tools": [TOOL],
                "thinking": {"type": "adaptive"},
                "context_management": {"edits": []},
                "output_config": {"effort": "medium"},
            },
        )
    assert answer.content[-1].text == "Grüße aus Köln 😀"
