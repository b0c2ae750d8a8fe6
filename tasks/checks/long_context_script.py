"""Long texts in pieces: chunks equal one pass, a window equals masked attention, texts have the tokens they should."""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tasks import api
from tasks.api import Verdict
from tasks.llm import local, trial
from tasks.llm.trial import Broken
from tasks.models import quiz, random_lm
from tasks.services import program

NAMES = ("prefill", "all_logits", "decode", "perplexity", "sized_text")
TOKENS, NEW = 150, 12
CHUNKS, WINDOWS = (1, 16, 64, 500), (24, 70)
LIMIT = 1e-4
LENGTHS = (1024, 4096, 16384)
SPREAD = 0.1


class Params(api.Params): ...


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="transformers", environment="training", memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    import torch

    try:
        made = program.load(file, NAMES)
        torch.set_num_threads(1)
        model = random_lm.make(seed=work.seed, spread=SPREAD)
        ids = local.drawn(model.config.vocab_size, (1, TOKENS), work.seed)
        trial.attempt("chunks", partial(chunks, made, model, ids))
        trial.attempt("windows", partial(windows, made, model, ids))
        trial.attempt("texts", partial(sizes, made, work.seed))
    except (api.UserError, Broken) as error:
        return Verdict(False, str(error))
    said = f"chunks equal one pass within {LIMIT:g}, windows equal masked attention, {LENGTHS} tokens counted"
    return Verdict(True, said, {"chunks": CHUNKS, "windows": WINDOWS, "lengths": LENGTHS})


def chunks(made: Any, model: Any, ids: Any) -> None:
    right = trial.logits(model, ids)[0]
    for chunk in CHUNKS:
        what = f"chunks of {chunk}"
        with trial.fed(model) as lengths:
            last, cache = trial.attempt(what, partial(made.prefill, model, ids, chunk))
        if sum(lengths) != TOKENS or max(lengths) > chunk:
            raise Broken(f"{what}: the passes read {lengths[:4]} tokens")
        trial.alike(what, last, right[-1], LIMIT)
        trial.alike(what, trial.attempt(what, partial(made.all_logits, model, ids, chunk)), right, LIMIT)
        tokens, _ = trial.attempt(what, partial(made.decode, model, last, cache, TOKENS, NEW))
        trial.same_tokens(f"decode after {what}", tokens, trial.greedy(model, ids, NEW)[0].tolist())
    import torch

    loss = torch.nn.functional.cross_entropy(right[:-1], ids[0, 1:])
    told = trial.attempt("perplexity", lambda: made.perplexity(right, ids))
    if abs(told / float(torch.exp(loss)) - 1) > 1e-3:
        raise Broken(f"perplexity: {told:.4f}, expected {float(torch.exp(loss)):.4f}")


def windows(made: Any, model: Any, ids: Any) -> None:
    each = local.token_bytes(model)
    for window in WINDOWS:
        right = trial.logits(model, ids, window)[0]
        for chunk in (None, 1, 16):
            what = f"a window of {window} in chunks of {chunk}"
            trial.alike(what, trial.attempt(what, partial(made.all_logits, model, ids, chunk, window)), right, LIMIT)
        last, cache = trial.attempt(what, partial(made.prefill, model, ids, 16, window))
        held = local.stored_bytes(cache)
        if held > each * window:
            raise Broken(f"a window of {window} holds {held} bytes, its tokens take {each * window}")
        tokens, _ = trial.attempt(what, partial(made.decode, model, last, cache, TOKENS, NEW, window))
        trial.same_tokens(f"decode after {what}", tokens, trial.greedy(model, ids, NEW, window)[0].tolist())


def sizes(made: Any, seed: int) -> None:
    """The tokenizer counts, not the program."""
    tokenizer = small_tokenizer(seed)
    for tokens in LENGTHS:
        text = trial.attempt("sized_text", partial(made.sized_text, tokenizer, tokens, local.text(seed)))
        counted = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        if counted != tokens:
            raise Broken(f"sized_text: a text of {tokens} tokens has {counted}")


def small_tokenizer(seed: int) -> Any:
    """A byte-level BPE tokenizer, learnt on a few questions."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    learnt = ByteLevelBPETokenizer()
    texts = (f"{one.prompt}\n{one.answer}\n" for one in islice(quiz.training(seed), 500))
    learnt.train_from_iterator(texts, vocab_size=400, show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=learnt._tokenizer, clean_up_tokenization_spaces=False)
