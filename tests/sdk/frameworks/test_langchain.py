"""LangChain's ChatOpenAI."""

import asyncio

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from forms import BOTH, CALLED, QUESTION, SUNNY, Person, Verdict


@tool
def get_weather(town: str, metric: bool) -> str:
    """The weather in a town."""
    return f"clear in {town}"


@pytest.fixture
def chat(server):
    return ChatOpenAI(
        model="demo", base_url=f"{server.url}/v1", api_key="unused", temperature=0, max_retries=0
    )


def test_invoke(chat):
    answer = chat.invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    assert answer.content
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.response_metadata["model_name"] == "demo"
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def test_stream(chat):
    whole = chat.invoke(QUESTION)
    chunks = list(chat.stream(QUESTION, stream_usage=True))
    assert len(chunks) > 3
    answer = sum(chunks[1:], chunks[0])
    assert isinstance(answer, AIMessageChunk)
    assert answer.content == whole.content
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]


def test_a_chain(chat):
    chain = ChatPromptTemplate.from_messages([("human", "{question}")]) | chat | StrOutputParser()
    assert chain.invoke({"question": QUESTION}) == chat.invoke(QUESTION).content


def test_async_and_batches(chat, run):
    async def ask():
        answers = await asyncio.gather(*(chat.ainvoke(QUESTION) for _ in range(3)))
        streamed = [chunk.content async for chunk in chat.astream(QUESTION)]
        return [answer.content for answer in answers], "".join(streamed)

    answers, streamed = run(ask())
    assert answers == [streamed] * 3
    assert [answer.content for answer in chat.batch([QUESTION, QUESTION])] == answers[:2]


def test_bound_tools_to_the_end_of_the_loop(chat):
    bound = chat.bind_tools([get_weather])
    messages = [HumanMessage(BOTH)]
    answer = bound.invoke(messages)
    assert [call["args"] for call in answer.tool_calls] == CALLED
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    messages.append(answer)
    messages += [get_weather.invoke(call) for call in answer.tool_calls]
    assert isinstance(messages[-1], ToolMessage)
    assert bound.invoke(messages).content == SUNNY


def test_streamed_tool_calls(chat):
    chunks = list(chat.bind_tools([get_weather]).stream(BOTH))
    answer = sum(chunks[1:], chunks[0])
    assert [call["args"] for call in answer.tool_calls] == CALLED
    assert not answer.invalid_tool_calls


def test_a_tool_that_must_be_called(chat):
    answer = chat.bind_tools([get_weather], tool_choice="get_weather").invoke(QUESTION)
    assert [call["name"] for call in answer.tool_calls] == ["get_weather"]
    get_weather.invoke(answer.tool_calls[0]["args"])
    answer = chat.bind_tools([get_weather], tool_choice="any").invoke(QUESTION)
    assert answer.tool_calls


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("form", [Person, Verdict])
def test_structured_output(chat, run, method, form):
    structured = chat.with_structured_output(form, method=method)
    assert isinstance(structured.invoke(QUESTION), form)
    *_, last = structured.stream(QUESTION)
    assert isinstance(last, form)
    assert isinstance(run(structured.ainvoke(QUESTION)), form)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_with_what_it_came_from(chat, method):
    structured = chat.with_structured_output(Person, method=method, include_raw=True)
    answer = structured.invoke(QUESTION)
    assert answer["parsing_error"] is None
    assert isinstance(answer["parsed"], Person) and answer["raw"].usage_metadata


def test_json_mode(chat):
    structured = chat.with_structured_output(None, method="json_mode")
    assert isinstance(structured.invoke("Ada as JSON."), dict)
