"""LangChain's ChatOllama, OllamaLLM and OllamaEmbeddings."""

import pytest
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

from forms import BOTH, CALLED, QUESTION, SUNNY, Person, Verdict


@tool
def get_weather(town: str, metric: bool) -> str:
    """The weather in a town."""
    return f"clear in {town}"


@pytest.fixture
def chat(server):
    """It asks for the list of models to see whether its own is there."""
    return ChatOllama(
        model="demo", base_url=server.url, temperature=0, reasoning=False,
        validate_model_on_init=True,
    )


def test_invoke_and_stream(chat):
    whole = chat.invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    assert whole.content and whole.response_metadata["done_reason"] == "stop"
    usage = whole.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
    chunks = list(chat.stream([SystemMessage("Be brief."), HumanMessage(QUESTION)]))
    assert len(chunks) > 3
    streamed = sum(chunks[1:], chunks[0])
    assert streamed.content == whole.content
    assert streamed.usage_metadata == usage


def test_knows_the_model(server, chat):
    with pytest.raises(ValueError, match="not found"):
        ChatOllama(model="absent", base_url=server.url, validate_model_on_init=True)


def test_async(chat, run):
    async def ask():
        whole = await chat.ainvoke(QUESTION)
        return whole.content, "".join([chunk.content async for chunk in chat.astream(QUESTION)])

    whole, streamed = run(ask())
    assert whole == streamed != ""


def test_tools_to_the_end_of_the_loop(chat):
    bound = chat.bind_tools([get_weather])
    messages = [HumanMessage(BOTH)]
    answer = bound.invoke(messages)
    assert [call["args"] for call in answer.tool_calls] == CALLED
    assert len({call["id"] for call in answer.tool_calls}) == 2
    messages.append(answer)
    messages += [get_weather.invoke(call) for call in answer.tool_calls]
    assert isinstance(messages[-1], ToolMessage)
    assert bound.invoke(messages).content == SUNNY


@pytest.mark.parametrize("form", [Person, Verdict])
def test_structured_output(chat, form):
    structured = chat.with_structured_output(form, method="json_schema")
    assert isinstance(structured.invoke(QUESTION), form)
    assert isinstance(chat.with_structured_output(None, method="json_mode").invoke(QUESTION), dict)


def test_thoughts(server):
    chat = ChatOllama(model="demo", base_url=server.url, temperature=0, reasoning=True)
    answer = chat.invoke("Think first, then greet.")
    assert answer.content == "Hello!"
    assert answer.additional_kwargs["reasoning_content"] == "They greet me."


def test_prompts_and_vectors(server):
    plain = OllamaLLM(model="demo", base_url=server.url, temperature=0, reasoning=False)
    assert plain.invoke(QUESTION) == "".join(plain.stream(QUESTION)) != ""
    embeddings = OllamaEmbeddings(model="demo", base_url=server.url)
    first, second = embeddings.embed_documents(["a cat", "a board"])
    assert embeddings.embed_query("a cat") == first != second
