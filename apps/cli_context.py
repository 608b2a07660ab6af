"""`retain context`: hand what a memory holds to a language model that sees."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from retain.apps.cli_options import TokenOption


class MessageFormat(StrEnum):
    OPENAI = "openai"
    QWEN = "qwen"
    HF = "hf"


def context(
    memory: Annotated[
        str,
        typer.Argument(
            help="memory.safetensors, a result's folder, a snapshot's, or a running watch's port."
        ),
    ],
    question: Annotated[str, typer.Option(help="What the model is asked; it comes last.")],
    family: Annotated[
        str, typer.Option(help="Whose tokens: qwen2-vl, qwen2.5-vl, qwen3-vl.")
    ] = "qwen2.5-vl",
    budget: Annotated[
        int, typer.Option(min=1, help="Tokens for everything: pictures, times, question.")
    ] = 12_800,
    style: Annotated[
        MessageFormat,
        typer.Option("--format", help="openai: chat API. qwen: qwen_vl_utils. hf: transformers."),
    ] = MessageFormat.OPENAI,
    system: Annotated[str, typer.Option(help="A system line.", show_default="none")] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json|FOLDER",
            help="Write the messages, pictures within (.json) or as files beside (folder).",
            show_default="only show",
        ),
    ] = None,
    token_file: TokenOption = None,
) -> None:
    """Hand a memory to a language model that sees: frames in order of time, each after its time,
    then the question, within a budget of tokens."""
    from retain.apps import context as job

    job.hand_over(
        job.ContextOptions(memory, question, family, budget, style.value, system, out, token_file)
    )
