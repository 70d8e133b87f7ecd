"""`zoo predict`: raw inputs to results, one by one, as they come."""

from __future__ import annotations

import itertools
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.inputs import as_raw, question_inputs, read_inputs
from zoo.cli.loading import (
    PRETRAINED,
    Adapter,
    Compile,
    Device,
    Labels,
    Name,
    Precision,
    Revision,
    TaskOption,
    Tokenizer,
    Weights,
    load_predictor,
)
from zoo.cli.outputs import print_answers, print_stream, written
from zoo.cli.shared import names, number_or, readable
from zoo.errors import ConfigError

_ANSWERS = "Of labels, objects and vectors"
_WRITTEN = "Of texts that are written"
_SPEECH = "Of speech"
_ASKED = "Of zero-shot labels and questions"
_EARLY: dict[str, bool | str] = {"true": True, "false": False, "never": "never"}


class OnError(StrEnum):
    raise_ = "raise"
    return_ = "return"


BatchSize = Annotated[str, typer.Option("--batch-size", metavar="NUMBER|auto", help="Inputs in one batch.")]
OnErrorOption = Annotated[
    OnError,
    typer.Option("--on-error", help="Stop at an input that can't be read, or report it in its place and go on."),
]


@readable
def predict(
    model: Name,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
            help="Files of images or sounds, texts, or, where an input has several columns (a row of a table, a pair "
            "of texts, a question and its context), JSON objects or a .jsonl file of them; - reads one a line from "
            "standard input.",
            show_default=False,
        ),
    ] = None,
    batch_size: BatchSize = "auto",
    on_error: OnErrorOption = OnError.raise_,
    task: TaskOption = None,
    labels: Labels = None,
    weights: Weights = PRETRAINED,
    revision: Revision = None,
    tokenizer: Tokenizer = None,
    device: Device = None,
    precision: Precision = None,
    compile: Compile = False,
    adapter: Adapter = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Labels, words or objects to list, or tokens to draw from.", rich_help_panel=_ANSWERS),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Of several labels, and of objects: give those of this probability.", rich_help_panel=_ANSWERS
        ),
    ] = None,
    nms: Annotated[
        float | None,
        typer.Option(
            help="Of objects: of two boxes of one label that overlap by more, give the better one.",
            rich_help_panel=_ANSWERS,
        ),
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option("--normalize/--no-normalize", help="Vectors of unit length.", rich_help_panel=_ANSWERS),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Tokens to generate at most.", rich_help_panel=_WRITTEN)
    ] = None,
    do_sample: Annotated[
        bool | None,
        typer.Option("--do-sample/--no-do-sample", help="Draw tokens by probability.", rich_help_panel=_WRITTEN),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Logits are divided by it.", rich_help_panel=_WRITTEN)
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the fewest tokens of this probability.", rich_help_panel=_WRITTEN)
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1: repeat tokens less.", rich_help_panel=_WRITTEN)
    ] = None,
    prompt_lookup_num_tokens: Annotated[
        int | None, typer.Option(help="Tokens guessed at once by the text so far; 0: none.", rich_help_panel=_WRITTEN)
    ] = None,
    num_assistant_tokens: Annotated[
        int | None,
        typer.Option(help="Tokens drafted at once by a bundle's int8 copy; 0: none.", rich_help_panel=_WRITTEN),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the drawing, or of the noise.", rich_help_panel=_WRITTEN)] = None,
    min_new_tokens: Annotated[
        int | None, typer.Option(help="Of a summary or translation: tokens at least.", rich_help_panel=_WRITTEN)
    ] = None,
    num_beams: Annotated[
        int | None, typer.Option(help="Texts followed side by side; 1 for none.", rich_help_panel=_WRITTEN)
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(help="With --num-beams: above 0 for longer texts.", rich_help_panel=_WRITTEN)
    ] = None,
    early_stopping: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="With --num-beams, when the search ends: true, false or never.",
            rich_help_panel=_WRITTEN,
        ),
    ] = None,
    no_repeat_ngram_size: Annotated[
        int | None, typer.Option(help="No run of so many tokens comes twice.", rich_help_panel=_WRITTEN)
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Print a text as it is generated.", rich_help_panel=_WRITTEN)
    ] = False,
    src_lang: Annotated[
        str | None, typer.Option(help="Of a translation: the language of the text.", rich_help_panel=_WRITTEN)
    ] = None,
    tgt_lang: Annotated[
        str | None, typer.Option(help="The language to translate into.", rich_help_panel=_WRITTEN)
    ] = None,
    truncation: Annotated[
        bool,
        typer.Option("--truncation", help="Leave out the end of a text that is too long.", rich_help_panel=_WRITTEN),
    ] = False,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="A text that ends the generation; may be repeated.", rich_help_panel=_WRITTEN
        ),
    ] = None,
    return_timestamps: Annotated[
        str | None,
        typer.Option(
            metavar="OF",
            help="Say when: word or char (CTC), or true for each stretch of speech (Whisper).",
            rich_help_panel=_SPEECH,
        ),
    ] = None,
    language: Annotated[str | None, typer.Option(help="To Whisper: de, or german.", rich_help_panel=_SPEECH)] = None,
    translate: Annotated[
        bool, typer.Option("--translate", help="By Whisper: into English.", rich_help_panel=_SPEECH)
    ] = False,
    prompt: Annotated[
        str | None, typer.Option(help="To Whisper: what may have been said before.", rich_help_panel=_SPEECH)
    ] = None,
    condition_on_prev_tokens: Annotated[
        bool,
        typer.Option(
            "--condition-on-prev-tokens",
            help="Tell each window of a long recording what was said before it.",
            rich_help_panel=_SPEECH,
        ),
    ] = False,
    no_speech_threshold: Annotated[
        float | None,
        typer.Option(help="Leave out windows that are silent with more than this.", rich_help_panel=_SPEECH),
    ] = None,
    logprob_threshold: Annotated[
        float | None,
        typer.Option(
            help="With --no-speech-threshold: only those whose mean log-probability is below this.",
            rich_help_panel=_SPEECH,
        ),
    ] = None,
    candidate_labels: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="The labels to choose from.", rich_help_panel=_ASKED),
    ] = None,
    hypothesis_template: Annotated[
        str | None,
        typer.Option(help="The sentence a label is put into, at {}.", rich_help_panel=_ASKED),
    ] = None,
    multi_label: Annotated[
        bool,
        typer.Option("--multi-label", help="Several labels may be true.", rich_help_panel=_ASKED),
    ] = False,
    question: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A question, of --context; may be repeated.", rich_help_panel=_ASKED),
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="The text that answers --question.", rich_help_panel=_ASKED)
    ] = None,
    max_answer_length: Annotated[
        int | None, typer.Option(help="Tokens of an answer at most.", rich_help_panel=_ASKED)
    ] = None,
    handle_impossible_answer: Annotated[
        bool,
        typer.Option("--handle-impossible-answer", help="A question may have no answer.", rich_help_panel=_ASKED),
    ] = False,
    null_score_diff_threshold: Annotated[
        float | None,
        typer.Option(
            help="No answer where its log-probability is larger than the best answer's by more than this.",
            rich_help_panel=_ASKED,
        ),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(help="Of a long input: the share of a window that the next one repeats.", rich_help_panel=_SPEECH),
    ] = None,
    lm: Annotated[
        str | None, typer.Option(metavar="PATH", help="An n-gram model, .arpa.", rich_help_panel=_SPEECH)
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight of --lm.", rich_help_panel=_SPEECH)] = None,
    beta: Annotated[float | None, typer.Option(help="What each word adds, with --lm.", rich_help_panel=_SPEECH)] = None,
    beam_width: Annotated[
        int | None, typer.Option(help="Transcripts held side by side, with --lm.", rich_help_panel=_SPEECH)
    ] = None,
    speaking_rate: Annotated[
        float | None, typer.Option(help="Of speech that is made: larger is faster.", rich_help_panel=_SPEECH)
    ] = None,
    noise_scale: Annotated[
        float | None, typer.Option(help="How much the voice varies.", rich_help_panel=_SPEECH)
    ] = None,
    noise_scale_duration: Annotated[
        float | None, typer.Option(help="How much the rhythm varies.", rich_help_panel=_SPEECH)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Draw the answer over the image, or write the speech, and save it here: a file for one input, else a "
            "folder.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, as each result is there.")
    ] = False,
) -> None:
    """Answer raw inputs with a model, or with an exported bundle without torch."""
    every = [*(inputs or ()), *question_inputs(question, context)]
    if not every:
        raise ConfigError("Nothing to predict: give INPUT..., or - for the lines of standard input.")
    predictor = load_predictor(
        model, task=task, labels=labels, weights=weights, revision=revision, tokenizer=tokenizer, device=device,
        precision=precision, compile=compile, adapter=adapter,
    )  # fmt: skip
    given = {
        "top_k": top_k,
        "threshold": threshold,
        "nms": nms,
        "normalize": normalize,
        "max_new_tokens": max_new_tokens,
        "do_sample": do_sample,
        "temperature": temperature,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
        "prompt_lookup_num_tokens": prompt_lookup_num_tokens,
        "num_assistant_tokens": num_assistant_tokens,
        "seed": seed,
        "min_new_tokens": min_new_tokens,
        "num_beams": num_beams,
        "length_penalty": length_penalty,
        "early_stopping": _EARLY.get(early_stopping, early_stopping) if early_stopping else None,
        "no_repeat_ngram_size": no_repeat_ngram_size,
        "src_lang": src_lang,
        "tgt_lang": tgt_lang,
        "truncation": truncation or None,
        "stop": tuple(stop) if stop else None,
        "candidate_labels": names(candidate_labels, "--candidate-labels"),
        "hypothesis_template": hypothesis_template,
        "multi_label": multi_label or None,
        # A task of the model is another thing: --task chooses that.
        "task": "translate" if translate else None,
        "return_timestamps": True if return_timestamps == "true" else return_timestamps,
        "language": language,
        "prompt": prompt,
        "condition_on_prev_tokens": condition_on_prev_tokens or None,
        "no_speech_threshold": no_speech_threshold,
        "logprob_threshold": logprob_threshold,
        "max_answer_length": max_answer_length,
        "handle_impossible_answer": handle_impossible_answer or None,
        "null_score_diff_threshold": null_score_diff_threshold,
        "overlap": overlap,
        "lm": lm,
        "alpha": alpha,
        "beta": beta,
        "beam_width": beam_width,
        "speaking_rate": speaking_rate,
        "noise_scale": noise_scale,
        "noise_scale_duration": noise_scale_duration,
    }
    options = {name: value for name, value in given.items() if value is not None}
    if stream:
        if as_json or output is not None:
            raise ConfigError("--stream prints texts as they come: leave --json and --output out.")
        print_stream(predictor, read_inputs(every, predictor), options)
        return
    texts, shown = itertools.tee(read_inputs(every, predictor))
    results = predictor.predict_iter(
        (as_raw(text, predictor) for text in texts),
        batch_size=number_or(batch_size, ["auto"], "--batch-size"),
        on_error=on_error.value,
        **options,
    )
    answered = zip(results, shown, strict=False)
    print_answers(
        answered if output is None else written(answered, output, several=len(every) > 1 or "-" in every), as_json
    )
