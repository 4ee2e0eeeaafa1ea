"""The stock openai client, streaming one answer and saying how it came.

    chat.py http://HOST:PORT/v1
"""

import sys
import time

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="not needed", timeout=120, max_retries=0)
begun = time.monotonic()
arrivals = []
stream = client.chat.completions.create(
    model="smollm2",
    messages=[{"role": "user", "content": "Name three colours."}],
    stream=True,
    max_tokens=64,
    temperature=0,
    seed=1,
    # Asked twice, llama.cpp would answer from its cache, and by another order of additions.
    extra_body={"cache_prompt": False},
)
finished = None
for chunk in stream:
    for choice in chunk.choices:
        finished = choice.finish_reason or finished
        if choice.delta.content:
            arrivals.append(time.monotonic() - begun)
            print(choice.delta.content, end="", flush=True)
print()
assert finished in ("stop", "length"), f"the stream ended with {finished}"
print(f"inference: {len(arrivals)} pieces, first after {arrivals[0]:.2f} s, last after {arrivals[-1]:.2f} s")
