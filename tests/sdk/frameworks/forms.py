"""What the frameworks are asked to fill in: the same for each of them."""

from typing import Literal

import pydantic

QUESTION = "What is an NPU?"
BOTH = "The weather in both towns, please."
CALLED = [{"town": "L'Aquila", "metric": True}, {"town": "Köln", "metric": False}]
SUNNY = "Sunny in L'Aquila, rain in Köln."


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int
    tags: list[str]


class Verdict(pydantic.BaseModel):
    """What one thinks of it."""

    verdict: Literal["good", "bad"]
    stars: int = pydantic.Field(ge=1, le=5)
