"""Context and label are the tokens of the whole text, for every kind of tokenizer; labels are scored as they differ."""

import warnings

import pytest
import torch
import transformers
from datasets import Dataset
from families import bart, byte_tokenizer, llama, t5
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from softprompt_lab import (
    PromptTuningConfig,
    SoftPromptModel,
    Task,
    evaluate,
    train,
)
from softprompt_lab.batch import PlainEngine
from softprompt_lab.evaluation import label_probabilities

TEXTS = [
    "the parcel came late",
    "Tweet text : thanks a lot Label : no complaint",
    "a refund, please :)",
]
LABELS = ("complaint", "no complaint", "10", "1", "Grüße", ")")
SIGN = normalizers.Replace(" ", "▁")


def core(kind: str) -> Tokenizer:
    """A tokenizer of the kind, trained on a few texts."""
    special = ["<unk>", "<s>", "</s>", "<pad>", "[CLS]", "[SEP]", "[UNK]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    if kind == "bytes":
        found, trainer = Tokenizer(models.BPE()), bpe
        found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        found.decoder = decoders.ByteLevel()
    elif kind == "words":
        found = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        found.normalizer, found.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
    elif kind == "unigram":
        found = Tokenizer(models.Unigram())
        found.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>")
    else:  # a sign for each space, in front of the text too or not
        found, trainer = Tokenizer(models.BPE(unk_token="<unk>")), bpe
        front = [normalizers.Prepend("▁")] if kind == "prepended" else []
        found.normalizer = normalizers.Sequence([*front, SIGN])
        found.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    found.train_from_iterator([*TEXTS, *LABELS] * 4, trainer)
    return found


def tokenizer_of(kind: str, form: str) -> PreTrainedTokenizerFast:
    """That tokenizer with what it puts around a text, such as "<s> $A </s>"."""
    found = core(kind)
    ids = [(name, found.token_to_id(name)) for name in form.split() if name != "$A"]
    found.post_processor = processors.TemplateProcessing(single=form, special_tokens=ids)
    names = {"eos_token": "</s>", "unk_token": "<unk>"}
    if kind == "words":
        names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=found, pad_token="<pad>", **names)


TOKENIZERS = {
    "GPT-2": lambda: tokenizer_of("bytes", "$A"),
    "BART": lambda: tokenizer_of("bytes", "<s> $A </s>"),
    "BERT": lambda: tokenizer_of("words", "[CLS] $A [SEP]"),
    "T5": lambda: tokenizer_of("unigram", "$A </s>"),
    "Llama": lambda: tokenizer_of("prepended", "<s> $A"),
    "Llama, add_eos_token": lambda: tokenizer_of("prepended", "<s> $A </s>"),
    "Gemma": lambda: tokenizer_of("replaced", "<s> $A"),
    "bytes": byte_tokenizer,
    "ByT5": ByT5Tokenizer,
}
TEMPLATES = [
    "Tweet text : {text} Label : ",
    "{text}\nLabel:",
    "{text} => ",
    "Is it so? {text} :",
    "{text} ",
]


def task_of(template: str = TEMPLATES[0], labels: tuple[str, ...] = LABELS) -> Task:
    """Texts with labels in turn."""
    rows = {"text": TEXTS * 4, "text_label": [labels[n % len(labels)] for n in range(12)]}
    return Task("texts", *[Dataset.from_dict(rows)] * 3, "text", labels, template)


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


def without_ends(tokenizer, text: str) -> list[int]:
    """The ids of a text that may go on."""
    ids = tokenizer(text)["input_ids"]
    ends = (tokenizer.eos_token_id, tokenizer.sep_token_id)
    return ids[:-1] if ids[-1] in ends else ids


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_decoder_reads_the_tokens_of_the_whole_text(tokenizer, template):
    """The label ends once; what stands before it never does, and is what the text alone begins with."""
    task = task_of(template)
    for text in TEXTS:
        alone, nothing = task.encode(tokenizer, text)
        assert nothing == []
        assert alone == without_ends(tokenizer, task.prompt(text).rstrip())
        for label in LABELS:
            context, ids = task.encode(tokenizer, text, label)
            assert context + ids[:-1] == without_ends(tokenizer, task.prompt(text) + label)
            assert context == alone[: len(context)]
            assert len(context) >= len(alone) - 1  # a label may merge with the last token
            assert ids[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id)


def test_an_encoder_decoder_reads_one_text_and_writes_another(tokenizer):
    """Each as the tokenizer makes it; the first token that `generate` forces is written, an end token once."""
    task, base = task_of(), t5()
    SoftPromptModel(base, PromptTuningConfig(4, task_type="SEQ_2_SEQ_LM"), tokenizer=tokenizer)
    context, label = task.encode(tokenizer, TEXTS[0], "no complaint")
    assert context == tokenizer(task.prompt(TEXTS[0]).rstrip())["input_ids"]
    bare = tokenizer(text_target="no complaint", add_special_tokens=False)["input_ids"]
    whole = tokenizer(text_target="no complaint")["input_ids"]
    end = label[-1]
    assert label == (whole if whole[-1] == end else [*whole, end])
    assert end in (tokenizer.eos_token_id, tokenizer.sep_token_id)
    base.generation_config.forced_bos_token_id = 7
    assert task.encode(tokenizer, TEXTS[0], "no complaint")[1] == [7, *bare, end]
    base.generation_config.forced_bos_token_id = None
    base.generation_config.decoder_start_token_id = whole[0]  # it is there already
    first = [] if whole[: len(bare)] != bare else whole[:1]
    assert task.encode(tokenizer, TEXTS[0], "no complaint")[1] == [
        *first,
        *whole[1:],
        *([] if whole[-1] == end else [end]),
    ]


@pytest.mark.parametrize("template", [TEMPLATES[0], "{text} :"])
def test_scores_are_those_of_a_loop(template):
    """With a label that merges with the template's last sign, and with labels that begin one another."""
    tokenizer, labels = TOKENIZERS["GPT-2"](), ("1", "10", ")", "complaint")
    task, base = task_of(template, labels), llama()
    base.resize_token_embeddings(len(tokenizer))
    found = evaluate(base, task, tokenizer=tokenizer, limit=3)
    for _, row in found.predictions.iterrows():
        for label in labels:
            whole = without_ends(tokenizer, task.prompt(row["text"]) + label)
            ids = [*whole, tokenizer.eos_token_id]
            with torch.no_grad():
                each = base(torch.tensor([ids])).logits[0].log_softmax(-1)
            fronts = [task.encode(tokenizer, row["text"], other)[0] for other in labels]
            start = min(map(len, fronts))
            assert (start == max(map(len, fronts))) is (template == TEMPLATES[0])
            score = sum(
                each[n - 1, ids[n]].item() for n in range(start, len(ids) - (not found.end_scored))
            )
            assert row[f"log p({label})"] == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize(("labels", "end"), [(("1", "10"), True), (("good", "bad"), False)])
def test_the_end_counts_where_labels_begin_alike(labels, end):
    """And nowhere else: the loss always counts it, so score and loss are the same number only there."""
    tokenizer, task = byte_tokenizer(), task_of(labels=labels)
    base = llama()
    base.resize_token_embeddings(len(tokenizer))
    found = evaluate(base, task, tokenizer=tokenizer)
    assert found.end_scored is end
    assert ("end token" in str(found)) is end
    table = found.predictions
    shares = label_probabilities(base, task, list(table["text"]), tokenizer=tokenizer)
    scores = torch.tensor(table[[f"log p({label})" for label in labels]].to_numpy())
    torch.testing.assert_close(torch.tensor(shares.to_numpy()), scores.softmax(dim=1))
    truth = [row[f"log p({row['label']})"] for _, row in table.iterrows()]
    assert (table["loss"].to_numpy() == pytest.approx(-torch.tensor(truth), abs=1e-6)) is end


def test_the_first_token_of_nothing_is_not_the_end():
    """Without prompt and text nothing predicts a label's first token; its end is left out of the score all the same."""
    tokenizer, base = byte_tokenizer(), llama()
    base.resize_token_embeddings(len(tokenizer))
    rows = Dataset.from_dict({"text": [""], "text_label": ["ab"]})
    task = Task("empty", rows, rows, rows, "text", ("ab", "cd"), "{text}")
    found = evaluate(base, task, tokenizer=tokenizer).predictions
    for label in task.labels:
        ids = tokenizer(label)["input_ids"]
        with torch.no_grad():
            score = base(torch.tensor([ids])).logits[0, 0].log_softmax(-1)[ids[1]].item()
        assert found[f"log p({label})"][0] == pytest.approx(score, abs=1e-4)


def test_a_longer_label_can_win():
    """Trained on rows of which each says its label: "10" is predicted where it is written, and only there."""
    tokenizer, rows = (
        byte_tokenizer(),
        {"text": ["aaaa", "bbbb"] * 8, "text_label": ["1", "10"] * 8},
    )
    task = Task("stars", *[Dataset.from_dict(rows)] * 3, "text", ("1", "10"), "{text}:")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = transformers.LlamaForCausalLM(llama().config)
        base.resize_token_embeddings(len(tokenizer))
        optimizer = torch.optim.Adam(base.parameters(), 3e-3)
        for _ in range(60):
            pairs = [
                task.encode(tokenizer, text, label)
                for text, label in zip(rows["text"][:2], task.labels, strict=True)
            ]
            loss = sum(
                torch.nn.functional.cross_entropy(
                    base(torch.tensor([c + t])).logits[0, len(c) - 1 : -1], torch.tensor(t)
                )
                for c, t in pairs
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found = evaluate(base.eval(), task, tokenizer=tokenizer)
    assert found.accuracy == found.exact_match == 1.0
    assert set(found.predictions["prediction"]) == {"1", "10"}


def test_labels_that_are_the_same_tokens_are_refused():
    """By name, in training and evaluation alike; a label with an unknown token is named."""
    tokenizer = TOKENIZERS["BERT"]()
    model = SoftPromptModel(llama(), PromptTuningConfig(2), tokenizer=tokenizer)
    model.base_model.resize_token_embeddings(len(tokenizer))
    for labels in (("好", "坏"), ("Good", "good"), ("good", ""), ("", "good")):
        task = task_of(labels=labels)
        for use in (
            lambda task=task: train(model, task, steps=1),
            lambda task=task: evaluate(model, task),
        ):
            said = (
                f"{labels[0]!r} and {labels[1]!r} as the tokens" if all(labels) else "as no token"
            )
            with pytest.raises(ValueError, match=said):
                use()
    with pytest.warns(UserWarning, match=r"does not know all of the labels \['好'\]"):
        evaluate(model, task_of(labels=("好", "complaint")), limit=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(model, task_of(labels=("no", "complaint")), limit=2)


@pytest.mark.parametrize("make", [t5, bart])
@pytest.mark.parametrize("forced", [None, 5])
@pytest.mark.parametrize("start", [None, 2, 9])
def test_an_encoder_decoder_is_scored_and_trained_on_what_it_generates(make, forced, start):
    """Exact match says whether `generate` writes the label; loss and score begin with the token that it begins with."""
    base, tokenizer = make(), byte_tokenizer()
    base.resize_token_embeddings(len(tokenizer))
    base.generation_config.forced_bos_token_id = forced
    base.config.decoder_start_token_id = base.generation_config.decoder_start_token_id = start
    base.generation_config.bos_token_id = 1
    model = SoftPromptModel(
        base, PromptTuningConfig(3, task_type="SEQ_2_SEQ_LM"), tokenizer=tokenizer
    )
    context, _ = task_of().encode(tokenizer, TEXTS[0])
    ids = torch.tensor([context])
    written = model.generate(ids, max_new_tokens=3, do_sample=False)[0]
    assert written[0] == (1 if start is None else start)
    assert forced is None or written[1] == forced
    words = tokenizer.decode(written[1 if forced is None else 2 :])
    task = task_of(labels=(words, "something else"))
    found = evaluate(model, task, limit=1)
    read = torch.tensor(
        [[written[0], *([] if forced is None else [forced]), *tokenizer(words)["input_ids"]]]
    )
    target = task.encode(tokenizer, TEXTS[0], words)[1]
    with torch.no_grad():
        logits = model(ids, decoder_input_ids=read).logits[0].log_softmax(dim=-1)
    each = [logits[place, token].item() for place, token in enumerate(target)]
    kept = each[0 if forced is None else 1 :]
    if tokenizer(words)["input_ids"] == written[len(written) - len(kept) + 1 :].tolist():
        assert found.predictions["correct"][0] == (found.predictions["prediction"][0] == words)
        assert found.exact_match == 1.0
    assert found.predictions[f"log p({words})"][0] == pytest.approx(sum(kept[:-1]), abs=1e-3)
    labels = torch.tensor([target])
    for loss in (model(ids, labels=labels).loss, model.loss(ids, None, labels)):
        assert loss.item() == pytest.approx(-sum(each) / len(each), abs=1e-4)
    mask = torch.ones_like(ids, dtype=torch.bool)
    plain = PlainEngine().label_loss(base, [model.prompt], ids, mask, labels)
    assert plain.item() == pytest.approx(-sum(each) / len(each), abs=1e-4)


def test_a_decoder_that_names_no_first_token_is_refused():
    """In words, before anything is computed from one that nobody chose."""
    base = t5()
    base.config.decoder_start_token_id = base.generation_config.decoder_start_token_id = None
    base.generation_config.bos_token_id = None
    model = SoftPromptModel(base, PromptTuningConfig(3, task_type="SEQ_2_SEQ_LM"))
    with pytest.raises(ValueError, match="names no token that its decoder starts with"):
        model.loss(torch.tensor([[5, 6]]), None, torch.tensor([[7, 1]]))


def test_a_tokenizer_without_an_end_token_is_refused():
    """A label could not end."""
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match=r"set tokenizer\.eos_token"):
        task_of().encode(tokenizer, TEXTS[0], "complaint")


def test_a_text_is_cut_alike_for_every_label(tokenizer):
    """So much is left as the longest label has room for, in training, in evaluation and without a label."""
    task = task_of()
    text = "the parcel came late " * 30
    fronts = [task.encode(tokenizer, text, label, max_length=100)[0] for label in LABELS]
    rows = [task.encode(tokenizer, text, label, max_length=100) for label in LABELS]
    assert max(len(context) + len(ids) for context, ids in rows) <= 100
    assert all(front == fronts[0] for front in fronts)
    assert task.encode(tokenizer, text, max_length=100)[0] == fronts[0]
