"""`softprompt-lab words`: one batch behind several prompts gives what each prompt gives alone."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from softprompt_lab import evaluate, load_base_model, load_task, train
from softprompt_lab.cli import commands as cli
from softprompt_lab.cli.words import BARE, NEW_TOKENS, word_answers, word_table
from softprompt_lab.errors import LabError
from softprompt_lab.runs import saved as runs
from softprompt_lab.runs import zoo

SKILLS = {"upper": 2, "past": 3}  # of so many virtual tokens


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two prompts on tiny, trained for a moment, in a folder like the zoo."""
    made = tmp_path_factory.mktemp("zoo")
    for skill, length in SKILLS.items():
        task = load_task(f"words/{skill}")
        model = runs.new_model("tiny", task, virtual_tokens=length, start="sample-vocab")
        before = evaluate(model, task, limit=2)
        history = train(model, task, steps=2, progress=False)
        told = {"data": f"words/{skill}", "label_column": None, "start": "sample-vocab"}
        runs.save_run(made / f"words-{skill}", model, task, history, before, before, **told)
    return [made / f"words-{skill}" for skill in SKILLS]


def test_each_answer_is_what_the_prompt_or_the_plain_base_model_writes_alone(folders):
    base_model, tokenizer = load_base_model("tiny")
    words = ["hot", "mouse", load_task("words/past").train["word"][0]]
    end = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, **end}
    rows = word_answers(folders, words, base_model, tokenizer)
    assert [(row["skill"], row["word"]) for row in rows] == [
        (skill, word) for skill in (*SKILLS, BARE) for word in words
    ]
    prompted = [runs.saved_model(folder, base_model, tokenizer) for folder in folders]
    for writer, part in zip([*prompted, base_model], (rows[:3], rows[3:6], rows[6:]), strict=True):
        for row in part:
            ids = torch.tensor([tokenizer(f"{row['word']} ->")["input_ids"]])
            new = writer.generate(ids, attention_mask=torch.ones_like(ids), **options)[
                0, ids.shape[1] :
            ]
            assert row["answer"] == tokenizer.decode(new, skip_special_tokens=True).strip()
    trained = {(row["skill"], row["word"]) for row in rows if row["trained_on"]}
    assert ("past", words[2]) in trained
    for skill, word in trained:
        assert word in load_task(f"words/{skill}").train["word"]


def test_the_table_fits_a_terminal_and_marks_training_words():
    """Seven words make two blocks; what the bare model goes on about is cut; a second line is left out."""
    words = ["hot", "mouse", "one", "two", "three", "four", "five"]
    rows = [
        {
            "skill": skill,
            "word": word,
            "answer": answer,
            "trained_on": skill == "past" and word == "two",
        }
        for skill, answer in (("past", "cold\nhot"), (BARE, "on and on and on and on"))
        for word in words
    ]
    lines = [*word_table(rows)]
    assert max(map(len, lines)) < 100
    assert lines[0].split() == words[:5]
    assert lines[1].split() == ["past", "cold", "cold", "cold", "cold", "*", "cold"]
    assert lines[2].startswith(f"{BARE}     on and on and o… on")
    assert lines[4].split() == words[5:]
    assert lines[-1].startswith("* a word of this skill's training rows")


def test_the_command_prints_a_table_or_json(folders, monkeypatch):
    monkeypatch.setattr(zoo, "FOLDER", folders[0].parent)
    shown = CliRunner().invoke(cli.app, ["words", "hot", "mouse"])
    assert shown.exit_code == 0, shown.output
    assert [line.split("  ")[0] for line in shown.output.splitlines()[1:4]] == [
        "past",
        "upper",
        BARE,
    ]
    rows = json.loads(CliRunner().invoke(cli.app, ["words", "hot", "--json"]).stdout)
    assert [row["skill"] for row in rows] == ["past", "upper", BARE]
    monkeypatch.setattr(zoo, "FOLDER", folders[0])
    empty = CliRunner().invoke(cli.app, ["words", "hot"])
    assert empty.exit_code == 1
    assert "prompts of word skills with one template are needed, not []" in empty.stderr
    assert "words hot mouse France" in CliRunner().invoke(cli.app, ["words", "--help"]).output


def test_prompts_of_several_templates_are_refused(folders, monkeypatch):
    """One batch shows every word in the same way."""
    found = runs.saved_task

    def task(folder, template=None):
        return (
            replace(found(folder), template="{text}: ") if "past" in folder.name else found(folder)
        )

    monkeypatch.setattr(runs, "saved_task", task)
    with pytest.raises(LabError, match=r"not \['{text} -> ', '{text}: '\]"):
        word_answers(folders, ["hot"])
