"""What the frameworks need besides the server of the folder above."""

import asyncio
import os

import pytest

# LiteLLM's prices come with it; it would look for newer ones on the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
# LangChain would trace to its maker's service where the environment says so.
os.environ["LANGSMITH_TRACING"] = "false"


def pytest_configure(config):
    """Their own warnings are for their makers."""
    config.addinivalue_line("filterwarnings", "ignore")


@pytest.fixture(scope="session")
def run():
    """Runs a coroutine to its end. One event loop for all: LangChain keeps its connections."""
    with asyncio.Runner() as runner:
        yield runner.run
