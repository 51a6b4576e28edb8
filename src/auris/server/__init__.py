"""`auris serve`: the engine behind the OpenAI audio API."""
