"""Every family of decoders and encoder-decoders in the installed transformers that builds small: right behind a prompt?

    python benchmarks/families.py                  # all of them, a minute or two; exits 1 if one is silently wrong
    python benchmarks/families.py marian gemma2    # some of them

Each is built with random weights, so large that nothing hides, and asked: is a prompt of words the words in front; is a
padded batch its rows alone, in `forward`, `loss` and its gradient; does `generate` write what it writes behind words.
What a family needs besides the sizes that all have stands in NEEDS.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import torch
import transformers
import typer
from torch.nn.functional import cross_entropy
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.models.auto import modeling_auto

from softprompt_lab import PromptTuningConfig, SoftPromptModel

TASKS = {
    "CAUSAL_LM": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "SEQ_2_SEQ_LM": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}
VOCABULARY, WIDTH, P, MOST_WEIGHTS, TOLERANCE = 99, 32, 4, 3_000_000, 1e-3
# Sizes by every name that a configuration has for them; each takes those that it knows.
SIZES = {
    WIDTH: "hidden_size n_embd d_model dim emb_dim word_embed_proj_dim embedding_size hidden_size_per_layer",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers "
    "num_encoder_layers num_key_value_heads num_kv_heads num_experts_per_tok",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads "
    "num_encoder_attention_heads num_decoder_attention_heads num_experts num_local_experts n_routed_experts",
    8: "head_dim d_kv kv_channels qk_nope_head_dim qk_rope_head_dim v_head_dim mamba_d_head mamba_head_dim "
    "mamba_n_heads kv_lora_rank q_lora_rank state_size mamba_d_state rotary_dim",
    64: "intermediate_size ffn_dim encoder_ffn_dim decoder_ffn_dim d_ff n_inner hidden_dim ffn_hidden_size dim_ff "
    "moe_intermediate_size shared_expert_intermediate_size max_position_embeddings n_positions n_ctx",
    0.2: "initializer_range init_std",
    0.0: "dropout attention_dropout activation_dropout embd_pdrop resid_pdrop attn_pdrop dropout_rate "
    "hidden_dropout_prob attention_probs_dropout_prob hidden_dropout",
    5.0: "embedding_multiplier",  # off, unless it is asked for
    True: "is_decoder scale_embedding",
}
SMALL = {name: size for size, names in SIZES.items() for name in names.split()} | {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "n_group": 1,
    "topk_group": 1,
}
LINEAR = {f"linear_num_{part}_heads": 4 for part in ("key", "value")}
LINEAR |= {f"linear_{part}_head_dim": 8 for part in ("key", "value")}
LINEAR["layer_types"] = ["linear_attention", "full_attention"]
CONVOLUTION = {"layer_types": ["conv", "full_attention"]}
GEMMA = {
    "layer_types": ["sliding_attention", "full_attention"],
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY,
    "num_kv_shared_layers": 0,
}
BERT = {
    "model_type": "bert",
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
BERT |= {"vocab_size": VOCABULARY, "intermediate_size": 64, "initializer_range": 0.2}
TEXT = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
TEXT |= {"num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": VOCABULARY}
TEXT |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.2}
VISION = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 4}
VISION |= {"intermediate_size": 64, "image_size": 56, "patch_size": 14}
MLA = ["axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa"]
MLA += ["longcat_flash", "minicpm3", "youtu"]
LINEAR_ATTENTION = ["qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"]
NEEDS: dict[str, dict[str, Any]] = {
    **{kind: {"num_key_value_heads": 4} for kind in MLA},
    **dict.fromkeys(LINEAR_ATTENTION, LINEAR),
    **dict.fromkeys(("lfm2", "lfm2_moe", "lfm3"), CONVOLUTION),
    "bamba": {"attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 8},
    "cpmant": {"dim_head": 8},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "dots1": {"n_shared_experts": 1},
    "encoder-decoder": {
        "encoder": BERT,
        "decoder": BERT | {"is_decoder": True, "add_cross_attention": True},
    },
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_chunk_size": 8},
    "fsmt": {f"{side}_vocab_size": VOCABULARY for side in ("src", "tgt")},
    "gemma3": {
        "text_config": TEXT,
        "vision_config": VISION,
        "mm_tokens_per_image": 4,
        "image_token_id": 3,
    },
    "gemma3n_text": GEMMA
    | {
        "intermediate_size": [64, 64],
        "laurel_rank": 4,
        "altup_num_inputs": 2,
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "gemma4_text": GEMMA | {"global_head_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "mamba2": {"num_heads": 8, "n_groups": 1},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "lru_width": WIDTH},
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_embds": False,
        "attention_head_size": 8,
        "feed_forward_size": 64,
    },
    "roc_bert": {
        f"{of}_{what}": 16
        for of in ("shape", "pronunciation")
        for what in ("vocab_size", "embed_dim")
    },
    "t5gemma": {"encoder": TEXT, "decoder": TEXT | {"is_decoder": True}, "vocab_size": VOCABULARY},
    "xlm": {"causal": True},
    "xlnet": {"d_head": 8, "d_inner": 64},
    "xlstm": {"embedding_dim": WIDTH, "num_blocks": 2},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 3, "attention_hidden_size": 64, "attention_head_dim": 16},
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"],
        "hybrid_layer_ids": [1],
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "mamba_headdim": 8,
    },
    "zaya": {"num_experts_per_tok": 1},
}
IDS = torch.randint(5, VOCABULARY, (4, 12), generator=torch.Generator().manual_seed(1))
WORDS, ROWS, ANSWER = (
    IDS[0, :P],
    [IDS[1].tolist(), IDS[2, :5].tolist(), IDS[3, :8].tolist()],
    [7, 8, 9],
)


class NotBuilt(Exception):
    """A family does not build, or not small."""


def settable(config: transformers.PretrainedConfig, name: str) -> bool:
    """Whether a configuration has an attribute of this name that takes a value."""
    try:
        setattr(config, name, getattr(config, name))
    except Exception:
        return False
    return True


def build(kind: str, task: str) -> PreTrainedModel:
    """Return a small random model of a family in eval mode, with noise on every weight: some begin at zero."""
    config_class = CONFIG_MAPPING[kind]
    try:
        known = {name: size for name, size in SMALL.items() if settable(config_class(), name)}
        if task == "SEQ_2_SEQ_LM":
            known["decoder_start_token_id"] = 2
        config = config_class(**known | copy.deepcopy(NEEDS.get(kind, {})))
        model_class = getattr(transformers, TASKS[task][kind])
        with torch.device("meta"):
            weights = sum(weight.numel() for weight in model_class(config).parameters())
        if weights > MOST_WEIGHTS:
            raise NotBuilt(f"{weights:,} weights")
        torch.manual_seed(0)
        model = model_class(config).float().eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.1 * torch.randn_like(weight)
            more = {"decoder_input_ids": IDS[:1], "use_cache": False}
            logits = model(IDS[:1], **more if model.config.is_encoder_decoder else {}).logits
        if not logits.isfinite().all():
            raise NotBuilt("its random weights give no finite numbers")
    except Exception as error:
        raise NotBuilt(f"{type(error).__name__}: {error}") from error
    return model


def more_of(base: PreTrainedModel, rows: int = 1) -> dict[str, torch.Tensor]:
    """Return an encoder-decoder's labels and what its decoder reads then: each label, behind the one before."""
    if not base.config.is_encoder_decoder:
        return {}
    read = [base.generation_config.decoder_start_token_id, *ANSWER[:-1]]
    return {
        "labels": torch.tensor([ANSWER] * rows),
        "decoder_input_ids": torch.tensor([read] * rows),
    }


# ------------------------------------------------------------------------------------------------- the questions


def gap(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference, as a share of the largest number that is expected."""
    return float((found - expected).abs().max() / expected.abs().max())


def logits_and_loss(base: PreTrainedModel, row: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the plain base model makes of the words in front of a row: logits of the row, summed loss."""
    text, more = torch.tensor([[*WORDS.tolist(), *row]]), more_of(base)
    if more:
        logits = base(text, decoder_input_ids=more["decoder_input_ids"], use_cache=False).logits
        return logits, cross_entropy(logits[0], more["labels"][0], reduction="sum")
    logits = base(text).logits
    return logits[:, P:], cross_entropy(logits[0, P - 1 : -1], text[0, P:], reduction="sum")


def batch_of(base: PreTrainedModel, side: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the rows padded on a side with a token that means something, their mask, and their labels."""
    longest, ids, mask = max(map(len, ROWS)), [], []
    for row in ROWS:
        pads = longest - len(row)
        before, behind = (pads, 0) if side == "left" else (0, pads)
        ids.append([7] * before + row + [7] * behind)
        mask.append([0] * before + [1] * len(row) + [0] * behind)
    ids, mask = torch.tensor(ids), torch.tensor(mask)
    return ids, mask, more_of(base, len(ROWS)).get("labels", ids.masked_fill(mask == 0, -100))


def words_in_front(base: PreTrainedModel, model: SoftPromptModel) -> Iterator[float]:
    """Yield the gaps of the logits and the loss of each row alone behind a prompt of words."""
    for row in ROWS:
        logits, loss = logits_and_loss(base, row)
        ids = torch.tensor([row])
        labels = more_of(base).get("labels", ids)
        yield gap(model(ids, **more_of(base)).logits, logits)
        yield gap(model.loss(ids, None, labels) * labels.numel(), loss)


def rows_alone(base: PreTrainedModel, model: SoftPromptModel) -> Iterator[float]:
    """Yield the gaps of a padded batch: logits, loss and its gradient, by `forward` and by `loss`, on either side."""
    weight = model.prompts["default"].embedding.weight
    alone, summed = [logits_and_loss(base, row) for row in ROWS], 0.0
    for row in ROWS:
        ids = torch.tensor([row])
        given = {"labels": ids} | more_of(base)
        summed += model(ids, **given).loss * given["labels"].numel()
    for side in ("left", "right"):
        ids, mask, labels = batch_of(base, side)
        output, count = (
            model(ids, mask, **{"labels": labels} | more_of(base, len(ROWS))),
            (labels != -100).sum(),
        )
        for logits, text, (expected, _) in zip(output.logits, mask.bool(), alone, strict=True):
            yield gap(logits if base.config.is_encoder_decoder else logits[text], expected[0])
        (wanted,) = torch.autograd.grad(summed / count, weight, retain_graph=True)
        for loss in (output.loss, model.loss(ids, mask, labels)):
            yield gap(loss, sum(loss for _, loss in alone) / count)
            yield gap(torch.autograd.grad(loss, weight)[0], wanted)


def writes_alike(base: PreTrainedModel, model: SoftPromptModel) -> Iterator[float]:
    """Yield how far from a tie the first token is that `generate` writes otherwise than the plain base behind words.

    The batch is padded, the plain base model has each row alone; 0 where they write the same.
    """
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "num_beams": 1}
    ids, mask, _ = batch_of(base, "left")
    together = model.generate(ids, mask, **options)
    for row, found in zip(ROWS, together, strict=True):
        text = torch.tensor([[*WORDS.tolist(), *row]])
        written = base.generate(text, attention_mask=torch.ones_like(text), **options)[0]
        same = int((found[-4:] == written[-4:]).long().cumprod(0).sum())
        if same == 4:
            yield 0.0
            continue
        before = written[None, : len(written) - 4 + same]
        given = {"input_ids": before}
        if base.config.is_encoder_decoder:
            given = {"input_ids": text, "decoder_input_ids": before, "use_cache": False}
        ahead = base(**given).logits[0, -1]
        yield gap(ahead[found[same - 4]], ahead[written[same - 4]])


QUESTIONS: dict[str, Callable[[PreTrainedModel, SoftPromptModel], Iterator[float]]] = {
    "words": words_in_front,
    "batch": rows_alone,
    "text": writes_alike,
}


class Finding(NamedTuple):
    """What became of a family, and the gaps or the words that say why.

    The verdict is "right", "refused" (a ValueError of ours or of transformers'), "error" (another one), "not built", or
    "WRONG": other numbers without a word.
    """

    verdict: str
    why: str


def judge(kind: str, task: str) -> Finding:
    """Return what a prompt does on a family."""
    try:
        base = build(kind, task)
    except NotBuilt as error:
        return Finding("not built", str(error))
    config = PromptTuningConfig(P, task_type=task, num_transformer_submodules=1)
    verdict, shown, name = "right", [], "prompt"
    try:
        start = base.get_input_embeddings()(WORDS).detach()
        model = SoftPromptModel(base, config, start=start)
        for name, question in QUESTIONS.items():
            gaps = list(question(base, model))
            shown.append(f"{name} {max(gaps):.0e}")
            if not all(value <= TOLERANCE for value in gaps):  # nor NaN
                verdict = "WRONG"
    except Exception as error:
        verdict = verdict if verdict == "WRONG" else "error"
        if verdict == "error" and isinstance(error, ValueError):
            verdict = "refused"
        shown.append(f"{name}: {type(error).__name__}: {error}")
    return Finding(verdict, ", ".join(shown))


def main(
    only: Annotated[list[str] | None, typer.Argument(help="Families; all without.")] = None,
) -> None:
    """Print a line for each family and how many there are of each kind."""
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    counts: dict[str, int] = {}
    for task, kinds in TASKS.items():
        for kind in kinds:
            if only and kind not in only:
                continue
            verdict, why = judge(kind, task)
            counts[verdict] = counts.get(verdict, 0) + 1
            print(f"{kind:24} {task:12} {verdict:9} {' '.join(why.split())[:200]}", flush=True)
    print(counts)
    raise typer.Exit(int("WRONG" in counts))


if __name__ == "__main__":
    typer.run(main)
