"""What a result shows as the last line of a cell: two lines, whatever it holds."""

from dataclasses import replace

from test_checkpoints import fresh, rows

from softprompt_lab import PromptTuningConfig, TrainingHistory, evaluate, train
from softprompt_lab.config import PromptTuningInit, TaskType
from softprompt_lab.runs.saved import save_run, saved_run
from softprompt_lab.training import training_steps


def two_lines(value: object, *says: str) -> None:
    shown = repr(value)
    assert shown.count("\n") <= 1
    assert len(shown) < 400
    for words in says:
        assert words in shown, shown


def test_results_show_what_they_are_in_two_lines(tmp_path):
    """Trained, measured, saved and read back."""
    model, task = fresh(), rows()
    before = evaluate(model, task)
    history = train(model, task, steps=3, evaluate_every=3, progress=False)
    after = evaluate(model, task)
    measured = history.evaluations[-1]
    losses = f"3 steps in {history.seconds:.1f} s, loss {history.losses[0]:.3f} to {history.losses[-1]:.3f}"
    two_lines(
        history,
        losses,
        f"validation accuracy {measured['accuracy']:.3f}",
        ".plot()",
        ".to_pandas()",
    )
    two_lines(TrainingHistory(), "TrainingHistory: 0 steps")
    two_lines(after, f"accuracy {after.accuracy:.3f}", f"n = {after.n}", ".predictions")
    rows_of = (
        f"rows {len(task.train)} train, {len(task.validation)} validation, {len(task.test)} test"
    )
    two_lines(task, repr(task.name), rows_of, "labels a, b", repr(task.template))
    two_lines(replace(task, labels=tuple(map(str, range(300)))), "labels 0, 1, ", "[...]")
    two_lines(replace(task, labels=(), template="word " * 500 + "{text}"), "answers in free text")
    two_lines(next(training_steps(model, task, steps=1)), "Step 1: loss ")
    name = type(model.base_model).__name__
    P, (trained, total) = len(model.prompt), model.trainable_parameters()
    sizes = f"'default' with {P} virtual tokens; {trained:,} of {total:,} parameters"
    two_lines(model, f"SoftPromptModel: 1 prompt(s) on {name}", sizes, "print(model.base_model)")
    save_run(tmp_path / "mine", model, task, history, before, after)
    run = saved_run(tmp_path / "mine", model.base_model, model.tokenizer)
    size = " x ".join(map(str, model.prompt.shape))
    two_lines(run, "SavedRun 'mine'", size, f"test accuracy {after.accuracy:.3f}", ".history")
    two_lines(replace(run, record={"trained": ["no", "figures"]}), "SavedRun 'mine'")


def test_a_configuration_shows_the_call_that_makes_it():
    for config in (
        PromptTuningConfig(),
        PromptTuningConfig(8, TaskType.SEQ_2_SEQ_LM, prompt_tuning_init_text="Is it ?"),
        PromptTuningConfig(3, prompt_tuning_init=PromptTuningInit.RANDOM, token_dim=4),
        fresh().prompt_config,
    ):
        two_lines(config, f"PromptTuningConfig(num_virtual_tokens={config.num_virtual_tokens}")
        assert eval(repr(config)) == config
    assert "None" not in repr(config)
