"""Which base model a prompt belongs to: one revision throughout, written and read back; another base is named.

A made-up repository lies in a made-up cache of the hub. Its revisions are equally wide and differ in every weight, in
the end token and in how they generate.
"""

import json
import warnings
from pathlib import Path

import peft
import pytest
import torch
from families import byte_tokenizer, gpt2, save_byte_model
from test_cli import run
from tokenizers import AddedToken
from transformers import (
    AutoModelForCausalLM,
    BartModel,
    BertForMaskedLM,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2Model,
    T5EncoderModel,
)

from softprompt_lab import (
    AdapterError,
    LabError,
    PromptTuningConfig,
    SoftPromptModel,
    load_adapter,
    load_base_model,
    load_task,
    train,
)
from softprompt_lab.bases import fetching
from softprompt_lab.bases.origin import check_base
from softprompt_lab.report.page import introduction
from softprompt_lab.report.section import Subject
from softprompt_lab.runs import saved as runs
from softprompt_lab.runs import zoo
from softprompt_lab.runs.checkpoints import CHECKPOINT_NAME, load_checkpoint, save_checkpoint

NAME = "someone/model"
COMMITS = {ref: f"{number:040d}" for number, ref in enumerate(("main", "v1", "v2"), 1)}
OTHER = "was made for another base model"


def snapshot(cache: Path, ref: str, place: str = "", seed: int | None = None) -> Path:
    """One commit in a cache, with a branch or tag that points to it."""
    repository = cache / f"models--{NAME.replace('/', '--')}"
    folder = save_byte_model(repository / "snapshots" / COMMITS[ref] / place)
    seed = int(COMMITS[ref]) if seed is None else seed
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(seed)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    model.generation_config.max_length = 100 + seed
    model.save_pretrained(folder)
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"eos_token": AddedToken(f"<end-of-{ref}{place}>")})
    tokenizer.save_pretrained(folder)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / ref).write_text(COMMITS[ref])
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """With three revisions, and one more model in a subfolder of the first."""
    folder = tmp_path_factory.mktemp("cache")
    for ref in COMMITS:
        snapshot(folder, ref)
    snapshot(folder, "main", "deep", seed=9)
    return folder


@pytest.fixture
def hub(cache, monkeypatch) -> Path:
    """The cache in its usual place."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


def place(hub: Path, ref: str) -> Path:
    """The snapshot's folder."""
    return hub / "models--someone--model" / "snapshots" / COMMITS[ref]


def saved(folder: Path, base, tokenizer=None, **fields) -> dict:
    """Save a prompt for a base; return what its configuration says."""
    config = PromptTuningConfig(2, **fields)
    SoftPromptModel(base, config, tokenizer=tokenizer).save_pretrained(folder)
    return json.loads((folder / "adapter_config.json").read_text())


def told(function, *arguments, **options) -> list[str]:
    """What is said of another base meanwhile."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        function(*arguments, **options)
    return [str(warning.message) for warning in seen if OTHER in str(warning.message)]


# ------------------------------------------------------------------------------------------------------- revisions


@pytest.mark.parametrize("ref", ["main", "v1", COMMITS["v2"]])
@pytest.mark.parametrize("where", ["usual place", "cache_dir"])
def test_weights_configurations_and_tokenizer_are_of_one_revision(cache, monkeypatch, ref, where):
    """As plain transformers reads each of them from the snapshot's own folder."""
    loading = {"revision": ref, "local_files_only": True, "token": "x"}
    if where == "cache_dir":
        loading["cache_dir"] = cache
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    model, tokenizer = load_base_model(NAME, **loading)
    name = {commit: name for name, commit in COMMITS.items()}.get(ref, ref)
    expected = AutoModelForCausalLM.from_pretrained(place(cache, name))
    assert torch.equal(model.lm_head.weight, expected.lm_head.weight)
    assert model.generation_config.max_length == expected.generation_config.max_length
    assert tokenizer.eos_token == f"<end-of-{name}>"
    assert (model.name_or_path, model.revision) == (NAME, ref)


def test_a_subfolder_is_of_all_three_and_part_of_the_name(hub):
    """On the hub and on this machine; nothing that a prompt's folder names means the model above it."""
    for name in (NAME, place(hub, "main")):
        model, tokenizer = load_base_model(name, subfolder="deep")
        assert tokenizer.eos_token == "<end-of-maindeep>"
        assert model.generation_config.max_length == 109
        assert model.name_or_path == f"{name}/deep"


def test_a_prompt_names_the_revision_and_it_is_loaded_again(hub, tmp_path):
    base, tokenizer = load_base_model(NAME, revision="v1")
    config = saved(tmp_path / "prompt", base, tokenizer)
    assert (config["base_model_name_or_path"], config["revision"]) == (NAME, "v1")
    for name in (None, NAME):
        again = runs.saved_model(tmp_path / "prompt", name)
        assert torch.equal(again.base_model.lm_head.weight, base.lm_head.weight)
        assert again.tokenizer.eos_token == "<end-of-v1>"
        again.save_pretrained(tmp_path / "again")
        assert load_adapter(tmp_path / "again")[0].revision == "v1"
    card = (tmp_path / "prompt" / "README.md").read_text()
    assert "load_base_model('someone/model', revision='v1')" in card


def test_the_command_line_trains_and_answers_at_a_revision(hub, tmp_path):
    columns = ["--text-column", "text", "--label-column", "label", "--template", "{text} : "]
    rows = "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(40))
    (tmp_path / "rows.csv").write_text("text,label\n" + rows)
    short = ["--virtual-tokens", 2, "--steps", 1, "--output", tmp_path / "out"]
    data = ["--data", tmp_path / "rows.csv", *columns, *short]
    result = run("train", *data, "--base", NAME, "--revision", "v1")
    assert result.exit_code == 0, result.output
    assert load_adapter(tmp_path / "out")[0].revision == "v1"
    expected = runs.saved_model(tmp_path / "out")
    (answer,) = runs.answers(expected, runs.saved_task(tmp_path / "out"), ["text 1"], 3)
    for base in ([], ["--base", NAME], ["--base", place(hub, "v1")]):
        result = run("generate", tmp_path / "out", "text 1", "--max-new-tokens", 3, "--json", *base)
        assert json.loads(result.stdout)[0]["answer"] == answer
    with pytest.warns(UserWarning, match="'someone/model' at revision 'v1', not .*snapshots"):
        run("generate", tmp_path / "out", "text 1", "--base", place(hub, "v2"))


@pytest.mark.parametrize("fields", [{}, {"base_model_name_or_path": NAME}, {"revision": "v1"}])
def test_a_configuration_need_not_say_the_revision_twice(hub, tmp_path, fields):
    base, _ = load_base_model(NAME, revision="v1")
    assert told(saved, tmp_path, base, **fields) == []
    assert load_adapter(tmp_path)[0].revision == "v1"


@pytest.mark.parametrize("at", ["v1", None])
def test_a_configuration_of_another_revision_is_told_both(hub, tmp_path, at):
    base, _ = load_base_model(NAME, revision=at)
    (message,) = told(saved, tmp_path, base, revision="v2")
    assert (
        f"'someone/model' at revision 'v2', not 'someone/model' at revision '{at or 'main'}'"
        in message
    )
    assert load_adapter(tmp_path)[0].revision == at


def test_a_base_loaded_by_transformers(hub, tmp_path):
    """Its commit is written where transformers tells it, as releases before 5.23 do; else the user may say it."""
    base = AutoModelForCausalLM.from_pretrained(NAME, revision="v1")
    base.config._commit_hash = COMMITS["v1"]
    assert saved(tmp_path / "told", base)["revision"] == COMMITS["v1"]
    for again in (base, load_base_model(NAME, revision="v1")[0]):
        assert told(SoftPromptModel.from_pretrained, again, tmp_path / "told") == []
    assert told(SoftPromptModel.from_pretrained, load_base_model(NAME)[0], tmp_path / "told")
    base.name_or_path = "someone/uncached"  # what its main branch is cannot be told
    saved(tmp_path / "null", called("someone/uncached"))
    assert told(SoftPromptModel.from_pretrained, base, tmp_path / "null") == []
    base.name_or_path = NAME
    del base.config._commit_hash
    assert saved(tmp_path / "said", base, revision="v1")["revision"] == "v1"
    assert told(SoftPromptModel.from_pretrained, base, tmp_path / "said") == []


def test_the_hub_id_of_a_snapshots_folder_gets_its_commit(hub, tmp_path):
    """Without it the folder would mean the main branch."""
    base, _ = load_base_model(place(hub, "v1"))
    assert saved(tmp_path / "v1", base, base_model_name_or_path=NAME)["revision"] == COMMITS["v1"]
    base, _ = load_base_model(place(hub, "main"))
    assert saved(tmp_path / "main", base, base_model_name_or_path=NAME)["revision"] is None


def test_the_tokenizer_of_a_text_start_is_of_the_revision(hub):
    """Its end token is one token in v1's vocabulary and many in the others'."""
    base, _ = load_base_model(NAME, revision="v1")
    text = {"prompt_tuning_init_text": "<end-of-v1>", "tokenizer_name_or_path": NAME}
    model = SoftPromptModel(base, PromptTuningConfig(2, **text))
    assert torch.equal(model.prompt[0], model.prompt[1])


@pytest.mark.parametrize("name", ["tiny", "tiny-seq2seq", "smollm2", "a folder"])
@pytest.mark.parametrize("revision", ["v1", "main"])
def test_a_folder_has_no_revision(tmp_path, name, revision):
    name = tmp_path if name == "a folder" else name
    with pytest.raises(ValueError, match=f"revision='{revision}': .* which has none"):
        load_base_model(name, revision=revision)


def test_a_folders_prompt_loses_a_revision_with_a_warning(tmp_path):
    base, _ = load_base_model(save_byte_model(tmp_path / "base"))
    (message,) = told(saved, tmp_path / "prompt", base, revision="v1")
    assert "at revision 'v1', not" in message
    assert load_adapter(tmp_path / "prompt")[0].revision is None
    assert saved(tmp_path / "main", base, revision="main")["revision"] is None
    runs.saved_model(tmp_path / "prompt")


def test_an_unknown_revision_is_named(hub):
    with pytest.raises(LabError, match="'someone/model' at revision 'nowhere' cannot be loaded"):
        load_base_model(NAME, revision="nowhere")


@pytest.mark.parametrize("revision", ["../../secret", "/etc/passwd", "a..b", "a b", "-x", 5])
def test_what_is_no_revision_is_refused(tmp_path, revision):
    """A stranger's folder leads to no file outside the cache."""
    saved(tmp_path, gpt2())
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"revision": revision}))
    with pytest.raises(AdapterError, match=r"revision=.* must be a branch, tag or commit"):
        load_adapter(tmp_path)
    for fine in ("main", "refs/pr/1", "v1.0-rc+1", "a@b", COMMITS["v1"], "", None):
        assert PromptTuningConfig(2, revision=fine).revision == fine


# --------------------------------------------------------------------------------------------------- another base


def called(name: str, revision: str | None = "unknown", **sizes) -> GPT2LMHeadModel:
    """A base model of the same width with a name, and a revision where it is known."""
    shape = {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64} | sizes
    torch.manual_seed(len(name))
    model = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=1, eos_token_id=2)).eval()
    model.name_or_path = model.config._name_or_path = name
    if revision != "unknown":
        model.revision = revision
    return model


@pytest.fixture
def first(tmp_path) -> Path:
    """A prompt for someone/first, beside others of other lengths."""
    model = SoftPromptModel(called("someone/first"), PromptTuningConfig(2))
    model.add_prompt("mail", PromptTuningConfig(3))
    return model.save_pretrained(tmp_path / "first")


def test_every_way_in_names_both_once(first):
    second, own = (
        called("someone/second"),
        SoftPromptModel(called("someone/second"), PromptTuningConfig(2)),
    )
    lora = peft.get_peft_model(called("someone/second"), peft.LoraConfig(task_type="CAUSAL_LM"))
    ways = [
        lambda: SoftPromptModel.from_pretrained(second, first),
        lambda: SoftPromptModel.from_pretrained(second, first, prompt_names=[]),
        lambda: SoftPromptModel.from_pretrained(lora, first),
        lambda: own.load_prompt(first, "again"),
        lambda: runs.saved_model(first, second),
        lambda: SoftPromptModel(second, load_adapter(first)[0]),
        lambda: own.add_prompt("new", load_adapter(first)[0]),
    ]
    for number, way in enumerate(ways):
        (message,) = told(way)
        assert "'someone/first', not 'someone/second'" in message
        assert len(message) < 300
        assert str(first) in message or number > 4


def test_saved_again_it_is_of_the_base_at_work(first, tmp_path):
    with pytest.warns(UserWarning, match=OTHER):
        model = SoftPromptModel.from_pretrained(called("someone/second", None), first)
    model.save_pretrained(tmp_path / "again")
    for folder in (tmp_path / "again", tmp_path / "again" / "mail"):
        assert load_adapter(folder)[0].base_model_name_or_path == "someone/second"
    assert told(SoftPromptModel.from_pretrained, called("someone/second"), tmp_path / "again") == []
    assert (
        json.loads((first / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "someone/first"
    )


@pytest.mark.parametrize("name", [None, ""])
def test_nothing_is_said_of_a_name_that_is_not_known(first, name):
    assert told(SoftPromptModel.from_pretrained, called(""), first) == []
    for folder in (first, first / "mail"):
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text()) | {"base_model_name_or_path": name}
        path.write_text(json.dumps(config))
    assert told(SoftPromptModel.from_pretrained, called("someone/second"), first) == []


@pytest.mark.parametrize(
    ("made_at", "loaded_at", "alarm"),
    [
        (None, "v1", True),
        ("v1", None, True),
        ("v1", "v2", True),
        ("v1", "v1", False),
        (None, "main", False),
        ("v1", "unknown", False),
    ],
)
def test_another_revision_of_the_same_name(tmp_path, made_at, loaded_at, alarm):
    saved(tmp_path, called("someone/first", made_at))
    said = told(SoftPromptModel.from_pretrained, called("someone/first", loaded_at), tmp_path)
    assert bool(said) == alarm
    if alarm:
        assert f"revision '{made_at or 'main'}'" in said[0]
        assert f"revision '{loaded_at or 'main'}'" in said[0]


def test_names_of_one_place_are_one_base(hub, tmp_path, monkeypatch):
    """Each against each, folder saved from one and loaded in front of another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SOFTPROMPT_LAB_CACHE", str(tmp_path / "fetched"))
    (tmp_path / "base").mkdir()
    (tmp_path / "fetched" / "smollm2").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "base")
    elsewhere = f"/home/them/hub/models--someone--model/snapshots/{COMMITS['v1']}"
    groups = [
        [
            "base",
            "base/",
            "./base",
            f"{tmp_path}/base",
            f"{tmp_path}/fetched/../base",
            "~/base",
            "link",
        ],
        ["smollm2", str(fetching.cache_folder() / "smollm2"), "~/fetched/smollm2/"],
        ["tiny", str(zoo.FOLDER.parent / "tiny")],
        [
            (NAME, "v1"),
            (NAME, COMMITS["v1"]),
            str(place(hub, "v1")),
            f"{place(hub, 'v1')}/",
            elsewhere,
        ],
        [(NAME, None), (NAME, "main"), str(place(hub, "main"))],
        ["/home/them/base", "/home/them/base/"],
        [r"C:\models\base"],
    ]
    named = [[(n, None) if isinstance(n, str) else n for n in group] for group in groups]
    bases = [[called(*n) for n in group] for group in named]
    for group in bases:
        for made_for in group:
            saved(tmp_path / "prompt", made_for)
            for other in bases:
                alarms = [
                    told(SoftPromptModel.from_pretrained, base, tmp_path / "prompt")
                    for base in other
                ]
                expected = [other is not group] * len(other)
                assert [bool(said) for said in alarms] == expected, made_for.name_or_path


@pytest.mark.parametrize(
    ("given", "here"),
    [({"num_layers": 3}, "num_layers is 3, not 2"), ({"num_attention_heads": 2}, "2, not 4")],
)
def test_other_sizes_tell_another_base_whatever_its_name(tmp_path, given, here):
    """PEFT writes them beside the width, which is an error of its own."""
    shape = {"n_layer": given.get("num_layers", 2), "n_head": given.get("num_attention_heads", 4)}
    saved(tmp_path, called("", **shape))
    (message,) = told(SoftPromptModel.from_pretrained, called("someone/second"), tmp_path)
    assert here in message
    (message,) = told(saved, tmp_path / "again", called(""), **given)
    assert here in message
    config = load_adapter(tmp_path / "again")[0]
    assert (config.num_layers, config.num_attention_heads) == (2, 4)


def test_a_checkpoint_is_of_a_base_too(tmp_path):
    """Of the same sizes and the same vocabulary; one that an earlier release wrote names none."""
    run = {"steps": 2, "batch_size": 2, "progress": False, "checkpoint": tmp_path}
    task = load_task("shop")

    def go_on(name: str, revision: str | None) -> None:
        base, tokenizer = load_base_model("tiny")
        base.name_or_path, base.revision = name, revision
        model = SoftPromptModel(base, PromptTuningConfig(2), tokenizer=tokenizer)
        train(model, task, **run, resume=True)

    assert told(go_on, "someone/first", "v1") == []
    assert told(go_on, "someone/first", "v1") == []
    (message,) = told(go_on, "someone/second", None)
    assert "checkpoint.safetensors was made for another base model: 'someone/first'" in message
    (message,) = told(go_on, "someone/first", "v2")
    assert "revision 'v1', not 'someone/first' at revision 'v2'" in message
    tensors, values = load_checkpoint(tmp_path / CHECKPOINT_NAME)
    del values["base"]
    save_checkpoint(tmp_path / CHECKPOINT_NAME, (tensors, values))
    assert told(go_on, "someone/second", None) == []


@pytest.mark.parametrize("task_type", ["CAUSAL_LM", "SEQ_2_SEQ_LM"])
@pytest.mark.parametrize(
    "kind", [BertForMaskedLM, GPT2Model, GPT2ForSequenceClassification, T5EncoderModel, BartModel]
)
def test_a_base_that_writes_no_text_is_refused_for_a_task_that_does(kind, task_type):
    """A masked language model trained as a decoder learns to copy the word that it sees."""
    small = {
        "vocab_size": 99,
        "hidden_size": 32,
        "d_model": 32,
        "d_kv": 8,
        "num_layers": 1,
        "num_heads": 4,
        "num_attention_heads": 4,
    }
    base = kind(kind.config_class(**small))
    with pytest.raises(ValueError, match=f"task_type={task_type} does not fit {kind.__name__}"):
        SoftPromptModel(base, PromptTuningConfig(2, task_type=task_type))


def test_the_page_names_the_revision(tmp_path):
    model = SoftPromptModel(called("someone/first", "v1"), PromptTuningConfig(2))
    trained = {"confidence_interval": (0.5, 0.7), "accuracy": 0.6, "n": 10}
    record = {"trained": trained, "majority_baseline": 0.5}
    task = load_task("shop")
    subject = Subject(runs.SavedRun("a", model, task, {}, None, record))
    assert "in front of someone/first at revision v1, trained on" in introduction(subject)


def test_the_shipped_prompts_name_their_base():
    """Nothing is said in front of smollm2, whether it is called so or by its folder."""
    shape = {"n_layer": 30, "n_embd": 36, "n_head": 9}
    bases = [
        called(name, None, **shape) for name in ("smollm2", f"{fetching.cache_folder()}/smollm2")
    ]
    for name in zoo.names():
        for base in bases:
            config, _ = load_adapter(zoo.folder(name))
            assert config.base_model_name_or_path == "smollm2"
            assert told(check_base, [config], base, name) == []
