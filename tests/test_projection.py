"""A prompt and its words: the gap between them, words found by gradient descent, a prompt that looks like a text."""

import math

import pytest
import torch
from test_checkpoints import RUN, fresh, rows, stopping

from softprompt_lab import (
    AdapterError,
    PromptTuningConfig,
    SoftPromptModel,
    evaluate,
    load_base_model,
    load_task,
    reading,
    train,
    training,
)
from softprompt_lab.embedding import text_start
from softprompt_lab.engine import FastEngine
from softprompt_lab.reading import OntoWords, TowardsText
from softprompt_lab.reading.projection import distance_to
from softprompt_lab.training import as_tensors, batches, encode_training_rows

PEZ = OntoWords()
TEXT = "abc"


def words(model: SoftPromptModel, text: str) -> torch.Tensor:
    """The embeddings of a text that is as long as the prompt."""
    return text_start(text, model.tokenizer, model.word_embeddings_module, len(model.prompt))


def closest(vectors: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """The ids of the nearest words by cosine."""
    vectors, table = vectors.detach().double(), table.double()
    return torch.cosine_similarity(vectors[:, None], table, dim=-1).argmax(dim=1)


def put(model: SoftPromptModel, prompt: torch.Tensor) -> SoftPromptModel:
    """The model behind other vectors."""
    with torch.no_grad():
        model.prompt.copy_(prompt)
    return model


# ------------------------------------------------------------------------------------------------------- the gap


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_words_are_their_own_projection(metric):
    """Also when they are longer (cosine) or a little off."""
    model = fresh()
    expected = words(model, "wxyz")
    moved = 3 * expected if metric == "cosine" else expected + 1e-4
    found, ids = reading.discretised(moved, model.word_embeddings, metric)
    assert torch.equal(found, expected)
    assert ids.tolist() == model.tokenizer("wxyz", add_special_tokens=False)["input_ids"]


def test_a_prompt_of_words_has_no_gap():
    """Its row and its words' are the same text with the same figures, each that of `evaluate`."""
    model = fresh()
    put(model, words(model, "wxyz"))
    table = reading.discretisation_gap(model, rows()).query("metric != 'dot'")
    own = table[table["kind"].isin(["prompt", "prompt's words"])]
    alone = evaluate(model, rows())
    assert own["text"].tolist() == ["w x y z"] * 3
    assert own["metric"].tolist() == ["", "cosine", "l2"]
    assert own["loss"].tolist() == pytest.approx([alone.loss] * 3, rel=1e-5)
    assert own["accuracy"].tolist() == [alone.accuracy] * 3
    assert own["against"].tolist() == ["", "prompt", "prompt"]
    assert (own.iloc[1:].filter(like="gap") == 0).all(axis=None)


def test_the_gap_is_the_difference_to_each_row_measured_alone():
    """Prompt, start and the bare model; each projection against what it projects."""
    model, task = fresh(), rows()
    start = model.prompt.detach().clone()
    put(model, start + 0.5 * torch.randn(start.shape, generator=torch.Generator().manual_seed(1)))
    trained = model.prompt.detach().clone()
    table = reading.discretisation_gap(model, task, start=start, draws=2)
    table = table[table["metric"].isin(["", "cosine"])]
    counts = table["kind"].value_counts()
    assert counts["random words"] == counts["random vectors"] == 2
    assert table["kind"].tolist()[:4] == ["prompt", "start", "prompt's words", "start's words"]
    vectors = {"prompt": trained, "start": start}
    vectors |= {f"{kind}'s words": PEZ(each, model) for kind, each in vectors.items()}
    found = {kind: evaluate(put(model, each), task) for kind, each in vectors.items()}
    found["no prompt"] = evaluate(model.base_model, task, tokenizer=model.tokenizer)
    for kind, alone in found.items():
        (row,) = table[table["kind"] == kind].itertuples()
        assert row.loss == pytest.approx(alone.loss, rel=1e-5)
        assert (row.accuracy, (row.low, row.high)) == (alone.accuracy, alone.confidence_interval)
        if kind != "prompt":
            assert row.against == ("start" if kind == "start's words" else "prompt")
            assert row.loss_gap == pytest.approx(alone.loss - found[row.against].loss, abs=1e-5)
            assert row.gap == pytest.approx(found[row.against].accuracy - alone.accuracy)
            assert row.loss_gap_low <= row.loss_gap <= row.loss_gap_high
    drawn = table[table["kind"] == "random words"]["text"]
    assert drawn.nunique() == 2
    assert table[table["kind"] == "random vectors"]["text"].tolist() == ["", ""]


# ------------------------------------------------------------------------------------------------------- PEZ


def test_pez_is_a_plain_loop():
    """The gradient at the words moves the vectors; the same optimizer, the words at the end."""
    options = RUN | {"steps": 6, "learning_rate": 0.3}
    ours, theirs = fresh(), fresh()
    history = train(ours, rows(), project=PEZ, **options)
    continuous = theirs.prompt.detach().clone().requires_grad_()
    table = theirs.word_embeddings.detach()
    optimizer = torch.optim.AdamW([continuous], lr=0.3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 6)
    losses, changed = [], 0
    for batch in batches(encode_training_rows(rows(), theirs.tokenizer), 3, 6, seed=0):
        nearest = closest(continuous, table)
        hard = table[nearest].clone().requires_grad_()
        loss = theirs.loss(*as_tensors(batch, theirs), prompts=[hard])
        loss.backward()
        losses.append(loss.item())
        continuous.grad = hard.grad
        torch.nn.utils.clip_grad_norm_([continuous], 1.0)
        optimizer.step()
        schedule.step()
        now = closest(continuous, table)
        changed += int((now != nearest).sum())
    assert changed > 0  # or the test could not fail
    assert history.losses == pytest.approx(losses, rel=1e-6)
    torch.testing.assert_close(history.snapshots[6], continuous.detach())
    assert torch.equal(ours.prompt, table[now])
    assert history.settings["project"] == "OntoWords()"


def test_pez_is_evaluated_at_its_words():
    """What the history says of the last step is what the model gives afterwards; the vectors are elsewhere."""
    model = fresh()
    history = train(model, rows(), project=PEZ, evaluate_every=6, **RUN)
    found = evaluate(model, rows(), "validation")
    assert history.evaluations[-1] == {
        "step": 12,
        "loss": pytest.approx(found.loss),
        "accuracy": found.accuracy,
    }
    assert not torch.equal(model.prompt, history.snapshots[12])
    assert torch.equal(model.prompt, PEZ(history.snapshots[12], model))


def test_with_patience_pez_goes_back_to_its_best_words():
    """They give the lowest loss that was measured."""
    model = fresh()
    history = train(
        model, rows(), project=PEZ, evaluate_every=1, patience=3, **(RUN | {"learning_rate": 1.0})
    )
    assert history.best_step < len(history.losses)
    lowest = min(entry["loss"] for entry in history.evaluations)
    assert evaluate(model, rows(), "validation").loss == pytest.approx(lowest)


@pytest.mark.slow
def test_pez_finds_words_that_elicit_a_skill_of_tiny():
    """Where random words do nothing; and it is these words as a text that do it, in front of the bare base model."""
    base, tokenizer = load_base_model("tiny")
    task = load_task("shop", label_column="complaint")
    torch.manual_seed(0)
    config = PromptTuningConfig(8, prompt_tuning_init="SAMPLE_VOCAB")
    model = SoftPromptModel(base, config, tokenizer=tokenizer)
    train(
        model, task, project=OntoWords(), steps=60, batch_size=16, learning_rate=0.3, progress=False
    )
    table = reading.discretisation_gap(model, task, limit=200).set_index("kind")
    print(table[["text", "accuracy", "low", "high"]].to_string())
    assert table.loc["prompt", "text"]
    assert table.loc["prompt", "low"] > 0.85
    assert table.loc["random words", "high"].max() < 0.6


# ------------------------------------------------------------------------------------------------------- wayward


def test_gamma_0_is_plain_training():
    """Bit for bit."""
    plain, free = fresh(), fresh()
    expected = train(plain, rows(), **RUN)
    history = train(free, rows(), penalty=TowardsText(TEXT, 0.0), **RUN)
    assert torch.equal(plain.prompt, free.prompt)
    assert history.losses == expected.losses
    assert history.penalties == [0.0] * 12
    assert expected.penalties == []


def test_one_wayward_step_is_autograd_of_the_sum():
    """Cross-entropy plus gamma times the mean squared distance, written out; recorded apart."""
    ours, theirs = fresh(), fresh()
    history = train(ours, rows(), penalty=TowardsText(TEXT, 0.5), **(RUN | {"steps": 1}))
    (batch,) = batches(encode_training_rows(rows(), theirs.tokenizer), 3, 1, seed=0)
    ids = theirs.tokenizer("abca", add_special_tokens=False)[
        "input_ids"
    ]  # repeated to the prompt's length
    squares = [
        (theirs.prompt[place] - theirs.word_embeddings[word]).square().sum()
        for place, word in enumerate(ids)
    ]
    added = 0.5 * sum(squares) / 4
    optimizer = torch.optim.AdamW(theirs.prompts.parameters(), lr=0.1, weight_decay=0.0)
    added.backward()
    loss = theirs.loss(*as_tensors(batch, theirs))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(theirs.prompts.parameters(), 1.0)
    optimizer.step()
    torch.testing.assert_close(ours.prompt, theirs.prompt)
    assert history.losses == pytest.approx([loss.item()])
    assert history.penalties == pytest.approx([added.item()])
    assert list(history.to_pandas().columns) == [
        "step",
        "loss",
        "penalty",
        "validation_loss",
        "validation_accuracy",
    ]


def test_a_large_gamma_gives_back_the_text():
    """All nearest words are the text's; the table says so beside its controls."""
    model, task = fresh(), rows()
    before = model.prompt.detach().clone()
    options = RUN | {"steps": 40, "learning_rate": 0.3}
    prompts = {}
    for gamma in (0.0, 1e4):
        put(model, before)
        train(model, task, penalty=TowardsText(TEXT, gamma), **options)
        prompts[gamma] = model.prompt.detach().clone()
    table = reading.wayward_table(model, task, TEXT, prompts).set_index("kind")
    free, bound = table.loc["gamma"].itertuples()
    assert free.gamma == 0
    assert (bound.gamma, bound.share, bound.words) == (1e4, 1, "a b c a")
    assert bound.distance < 1e-3 < free.distance
    text = table.loc["text"]
    assert (text["distance"], text["share"], text["words"]) == (0, 1, "a b c a")
    assert bound.loss == pytest.approx(text["loss"], rel=0.01)
    assert table.loc["random vectors", "share"] < 1
    assert math.isnan(table.loc["no prompt", "distance"])
    plain = put(fresh(), prompts[0.0])
    assert evaluate(plain, task).loss == pytest.approx(free.loss, rel=1e-5)
    assert distance_to(prompts[1e4], words(model, "abca")).item() == pytest.approx(bound.distance)


# ------------------------------------------------------------------------------------------------------- the loop


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"project": PEZ}, {"penalty": TowardsText(TEXT, 0.5)}], ids=["PEZ", "wayward"]
)
def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path, changes):
    """Prompt, losses, penalties, evaluations, snapshots, to the last bit."""
    options = RUN | changes | {"evaluate_every": 5, "patience": 3, "learning_rate": 0.3}
    whole, again = fresh(), fresh(seed=1)
    expected = train(whole, rows(), **options)
    kept = {"checkpoint": tmp_path, "checkpoint_every": 2}
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), rows(), **options, **kept, on_step=stopping(7))
    found = train(again, rows(), **options, **kept, resume=True)
    assert torch.equal(again.prompt, whole.prompt)
    for name in ("losses", "penalties", "evaluations", "best_step", "settings"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.snapshots.keys() == expected.snapshots.keys()
    assert all(
        torch.equal(found.snapshots[step], expected.snapshots[step]) for step in expected.snapshots
    )


def test_another_projection_or_penalty_is_another_run(tmp_path):
    """The message names both."""
    train(fresh(), rows(), **RUN, project=PEZ, checkpoint=tmp_path / "pez")
    train(fresh(), rows(), **RUN, penalty=TowardsText("a", 1.0), checkpoint=tmp_path / "wayward")
    with pytest.raises(AdapterError, match=r"project='OntoWords\(\)', now None"):
        train(fresh(), rows(), **RUN, checkpoint=tmp_path / "pez", resume=True)
    with pytest.raises(
        AdapterError, match=r"TowardsText\(text='a', gamma=1.0\).*, now .*text='b', gamma=1.0"
    ):
        train(
            fresh(),
            rows(),
            **RUN,
            penalty=TowardsText("b", 1.0),
            checkpoint=tmp_path / "wayward",
            resume=True,
        )


def test_a_batch_of_several_calls_reaches_the_vectors_through_the_words(monkeypatch):
    """Each call's gradient goes through the projection, one after the other, as that of a batch in one call."""
    real, calls = FastEngine.label_logits, []

    def one_by_one(engine, base_model, prompts, examples):
        for number, example in enumerate(examples):
            for part in real(engine, base_model, prompts, [example]):
                calls.append(number)
                yield part._replace(owners=[(number, target) for _, target in part.owners])

    gradients = []
    for way in (real, one_by_one):
        monkeypatch.setattr(FastEngine, "label_logits", way)
        model = fresh()
        train(model, rows(), project=PEZ, **(RUN | {"steps": 1}))
        gradients.append(model.prompts["default"].embedding.weight.grad)
    assert calls == [0, 1, 2]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_meant_is_refused():
    """With the value."""
    for gamma in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"gamma={gamma}"):
            TowardsText("a", gamma)
    with pytest.raises(ValueError, match="start text '' has no token"):
        train(fresh(), rows(), **RUN, penalty=TowardsText("", 1.0))
    settings = dict.fromkeys(
        ["steps", "batch_size", "snapshot_every", "evaluate_every", "checkpoint_every", "patience"]
    )
    settings |= {"learning_rate": None, "max_grad_norm": 1.0, "optimizer": "adamw"}
    settings |= {"penalty": None, "project": "cosine"}
    with pytest.raises(ValueError, match="project='cosine'; pass an object of"):
        training._check_settings(settings)
