"""Instructor: pydantic models out of answers, by tools and by JSON."""

import instructor
import openai
import pytest

from forms import QUESTION, Person, Verdict

MESSAGES = [{"role": "user", "content": QUESTION}]
MODES = [instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA]


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def fill_in(client, mode, form, question):
    made, answer = instructor.from_openai(client, mode=mode).create_with_completion(
        model="demo", messages=[{"role": "user", "content": question}], response_model=form,
        max_retries=0,
    )
    assert isinstance(made, form)
    assert answer.usage.completion_tokens > 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", [Person, Verdict])
def test_a_rambling_model_fills_in_what_it_is_held_to(client, mode, form):
    fill_in(client, mode, form, QUESTION)


def test_a_form_that_is_said_in_words(client):
    """The mode JSON asks for any object and hopes; the script answers with a person."""
    fill_in(client, instructor.Mode.JSON, Person, "Ada as JSON.")


def test_async(server, run):
    async def ask():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=0
        ) as client:
            return await instructor.from_openai(client, mode=instructor.Mode.TOOLS).create(
                model="demo", messages=MESSAGES, response_model=Person, max_retries=0
            )

    assert isinstance(run(ask()), Person)


@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA])
def test_a_model_is_filled_in_while_it_streams(client, mode):
    parts = list(
        instructor.from_openai(client, mode=mode).create_partial(
            model="demo", messages=MESSAGES, response_model=Person, max_retries=0
        )
    )
    assert len(parts) > 2
    Person.model_validate(parts[-1].model_dump())
