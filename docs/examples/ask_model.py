"""Ask a language model that sees about what a memory holds.

    python ask_model.py MEMORY "What happened?" MODEL http://localhost:8000/v1
    python ask_model.py MEMORY "What happened?" MODEL

The first asks an API like OpenAI's, the second runs the model here, by transformers.
MODEL: say Qwen/Qwen2.5-VL-7B-Instruct. A key of the API is read from OPENAI_API_KEY.
"""

import json
import os
import sys
from urllib.request import Request, urlopen

from retain.apps.ask.places import open_memory
from retain.memory.context import Context, context


def ask_server(chosen: Context, model: str, address: str) -> str:
    """Any server with /chat/completions: OpenAI, vLLM, SGLang, llama.cpp, Ollama."""
    body = {"model": model, "messages": chosen.messages("openai"), "max_tokens": 512}
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("OPENAI_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    request = Request(f"{address}/chat/completions", json.dumps(body).encode(), headers)
    with urlopen(request) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def ask_transformers(chosen: Context, name: str) -> str:
    """The model in this process; its weights are fetched by transformers."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(name)
    model = AutoModelForImageTextToText.from_pretrained(name, dtype="auto", device_map="auto")
    inputs = processor.apply_chat_template(
        chosen.messages("hf"),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.device)
    written = model.generate(**inputs, max_new_tokens=512)
    return processor.batch_decode(
        written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )[0]


place, question, model, *server = sys.argv[1:]
family = "qwen3-vl" if "qwen3" in model.lower() else "qwen2.5-vl"
chosen = context(open_memory(place).entries, family, budget=12_800, question=question)
print(f"{len(chosen.pictures)} frames, {chosen.tokens} tokens at most", file=sys.stderr)
print(ask_server(chosen, model, server[0]) if server else ask_transformers(chosen, model))
