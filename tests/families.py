"""Small random models: the families that the package promises, with every head. D = 32, L = 2, V = 99, float32.

Seed 0. Weights are drawn at 0.2, about 1 / sqrt(D), so that a wrong position or mask moves the logits visibly.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

# PEFT before 0.21.2 stores this method of an encoder-decoder and puts it back. transformers 5.20 no longer has it and
# calls nothing of that name, so any method will do, and PEFT's numbers are those of its newer releases.
_KEPT_BY_PEFT = "_prepare_encoder_decoder_kwargs_for_generation"
if not hasattr(PreTrainedModel, _KEPT_BY_PEFT):
    setattr(PreTrainedModel, _KEPT_BY_PEFT, PreTrainedModel.forward)

VOCABULARY, WIDTH, LAYERS, HEADS, POSITIONS, SCALE = 99, 32, 2, 4, 256, 0.2
_IDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_SHAPE = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
_BART_SIDE = {"layers": LAYERS, "attention_heads": HEADS, "ffn_dim": 64}
_ROTARY = {
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
    "initializer_range": SCALE,
}


def _build(model_class: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    """A model with random weights from seed 0, in eval mode; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config)
    return model.float().eval()


def gpt2() -> PreTrainedModel:
    """Learned positions, LayerNorm before."""
    shape = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POSITIONS}
    return _build(GPT2LMHeadModel, GPT2Config(**_IDS, **shape, initializer_range=SCALE))


def bloom() -> PreTrainedModel:
    """ALiBi: positions come from the mask."""
    shape = {"hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
    return _build(BloomForCausalLM, BloomConfig(**_IDS, **shape, initializer_range=SCALE))


def llama() -> PreTrainedModel:
    """Rotary positions, two key-value heads."""
    return _build(LlamaForCausalLM, LlamaConfig(**_IDS, **_SHAPE, **_ROTARY, num_key_value_heads=2))


def opt() -> PreTrainedModel:
    """Learned positions with an offset of two."""
    shape = {"ffn_dim": 64, "word_embed_proj_dim": WIDTH, "max_position_embeddings": POSITIONS}
    return _build(OPTForCausalLM, OPTConfig(**_IDS, **_SHAPE, **shape, init_std=SCALE))


def gpt_neox() -> PreTrainedModel:
    """Rotary positions on a part of each head, parallel residuals, untied output weights."""
    return _build(GPTNeoXForCausalLM, GPTNeoXConfig(**_IDS, **_SHAPE, **_ROTARY))


def qwen2() -> PreTrainedModel:
    """Rotary positions, biases in the projections."""
    return _build(Qwen2ForCausalLM, Qwen2Config(**_IDS, **_SHAPE, **_ROTARY, num_key_value_heads=2))


def t5() -> PreTrainedModel:
    """An encoder-decoder with relative positions; D, V as the decoders."""
    sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": LAYERS, "num_heads": HEADS}
    ids = {
        "vocab_size": VOCABULARY,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    return _build(T5ForConditionalGeneration, T5Config(**sizes, **ids, dropout_rate=0.0))


def bart() -> PreTrainedModel:
    """An encoder-decoder with learned positions, whose decoder begins with the end token."""
    sizes = {
        f"{side}_{name}": size
        for side in ("encoder", "decoder")
        for name, size in _BART_SIDE.items()
    }
    ids = {**_IDS, "decoder_start_token_id": 2, "forced_eos_token_id": None}
    shape = {
        "d_model": WIDTH,
        "max_position_embeddings": POSITIONS,
        "init_std": SCALE,
        "dropout": 0.0,
    }
    return _build(BartForConditionalGeneration, BartConfig(**ids, **shape, **sizes))


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "gpt2": gpt2,
    "bloom": bloom,
    "llama": llama,
    "opt": opt,
    "gpt_neox": gpt_neox,
    "qwen2": qwen2,
}


# ----------------------------------------------------------------------------------------------------- with heads

CLASSES = 3
_GPT2 = {
    "n_embd": WIDTH,
    "n_layer": LAYERS,
    "n_head": HEADS,
    "n_positions": POSITIONS,
    "initializer_range": SCALE,
}
_ENCODER = {"intermediate_size": 64, "max_position_embeddings": 64, "initializer_range": SCALE}
_DISTIL = {
    "dim": WIDTH,
    "n_layers": LAYERS,
    "n_heads": HEADS,
    "hidden_dim": 64,
    "max_position_embeddings": 64,
}
CONFIGS = {
    "Bert": lambda **more: transformers.BertConfig(**_IDS, **_SHAPE, **_ENCODER, **more),
    "Roberta": lambda **more: transformers.RobertaConfig(**_IDS, **_SHAPE, **_ENCODER, **more),
    "DistilBert": lambda **more: transformers.DistilBertConfig(
        **_IDS, **_DISTIL, initializer_range=SCALE, **more
    ),
    "GPT2": lambda **more: transformers.GPT2Config(**_IDS, **_GPT2, **more),
    "Llama": lambda **more: transformers.LlamaConfig(
        **_IDS, **_SHAPE, **_ROTARY, num_key_value_heads=2, **more
    ),
    "Qwen2": lambda **more: transformers.Qwen2Config(
        **_IDS, **_SHAPE, **_ROTARY, num_key_value_heads=2, **more
    ),
}
CLASSES_OF = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
    "FEATURE_EXTRACTION": "Model",
}
# What an encoder's classifier says of the last layer's states (B, N, D), of which it reads the first.
HEADS_BY_HAND = {
    "Bert": lambda base, states: base.classifier(base.bert.pooler(states)),
    "Roberta": lambda base, states: base.classifier(states),
    "DistilBert": lambda base, states: base.classifier(base.pre_classifier(states[:, 0]).relu()),
}
ENCODERS = tuple(HEADS_BY_HAND)


def base_of(family: str, task: str) -> PreTrainedModel:
    """An encoder or decoder with the head of a task."""
    labels = {"num_labels": CLASSES} if task in ("SEQ_CLS", "TOKEN_CLS") else {}
    return _build(getattr(transformers, family + CLASSES_OF[task]), CONFIGS[family](**labels))


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: 256 bytes and an end token, no padding token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<end>": 0} | {character: number for number, character in enumerate(alphabet, 1)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def save_byte_model(folder: Path) -> Path:
    """A random Llama over `byte_tokenizer`, with output weights of its own, saved as transformers does."""
    sizes = {"vocab_size": 260, "pad_token_id": None, "bos_token_id": None, "eos_token_id": 0}
    model = _build(LlamaForCausalLM, LlamaConfig(**sizes, **_SHAPE, **_ROTARY))
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
