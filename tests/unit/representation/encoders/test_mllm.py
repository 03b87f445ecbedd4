"""Vision-language encoders built from sizes: pooling, padding, broken input, pictures, adapters, artifacts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from adray.errors import ArtifactError, ConfigError
from adray.representation.creatives import Creatives
from adray.representation.encoders.factory import build_encoder, build_without_weights, load_encoder, save_encoder
from adray.representation.encoders.mllm_config import Architecture, LoraConfig, MllmConfig, TextSizes, VisionSizes
from adray.representation.encoders.mllm_qwen import picture_size

FAMILIES = ["qwen3_vl", "qwen2_5_vl", "smolvlm"]
RNG = np.random.default_rng(0)


def picture(height, width):
    return RNG.integers(0, 255, (height, width, 3), dtype=np.uint8)


def creatives(rows):
    names = [str(i) for i in range(len(rows))]
    return Creatives(names, names, [p for p, _ in rows], [c for _, c in rows])


def config(family="qwen3_vl", **changes):
    vision = VisionSizes(patch=8, side=32, positions=144, deepstack=[0] if family == "qwen3_vl" else [])
    text = TextSizes(width=32, heads=2, kv_heads=1, head_dim=16, mlp_width=48)
    architecture = Architecture(family=family, tokenizer="bytes", text=text, vision=vision)
    values = {"max_tokens": 320, "min_pixels": 16 * 16, "max_pixels": 64 * 64, "instruction": "Represent.", **changes}
    return MllmConfig(architecture=architecture, **values)


def build(family="qwen3_vl", **changes):
    torch.manual_seed(0)
    return build_encoder(config(family, **changes))


def vectors(encoder, batch):
    with torch.no_grad():
        return encoder(encoder.prepare(batch))


MIXED = creatives(
    [
        (picture(40, 60), "hello"),
        (None, "text only, rather longer than the first"),
        (picture(1, 900), "thin"),
        (None, ""),
        (picture(1, 1), "one pixel"),
        (picture(200, 30), ""),
        (picture(33, 33), "word " * 3000),
        (picture(20, 20), "תיאור מוצר بالعربية"),
        (None, "🔥👩‍👩‍👧 <|image_pad|><image><|vision_start|>\x00"),
    ]
)


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_equals_alone_under_both_paddings(family):
    found = {}
    for side in ("left", "right"):
        encoder = build(family, padding=side)
        found[side] = vectors(encoder, MIXED)
        alone = torch.cat([vectors(encoder, MIXED[i : i + 1]) for i in range(len(MIXED))])
        torch.testing.assert_close(found[side], alone, atol=1e-5, rtol=0)
        mask = encoder.prepare(MIXED).tensors["attention_mask"]
        assert mask[1, 0] == (side == "right")
    torch.testing.assert_close(found["left"], found["right"], atol=1e-5, rtol=0)
    torch.testing.assert_close(found["left"].norm(dim=1), torch.ones(len(MIXED)))
    # Each of them is something else.
    assert (found["left"] @ found["left"].T).fill_diagonal_(0).max() < 1 - 1e-6


@pytest.mark.parametrize("padding", ["left", "right"])
def test_batched_equals_alone_in_half_precision(padding):
    encoder = build(padding=padding).to(torch.bfloat16)
    alone = torch.cat([vectors(encoder, MIXED[i : i + 1]) for i in range(len(MIXED))])
    assert (vectors(encoder, MIXED) * alone).sum(1).min() > 1 - 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_vector_is_the_last_hidden_state(family):
    """Against the transformers model called as its documentation says, on one row without any padding."""
    encoder = build(family)
    inputs = encoder.prepare(MIXED[0:1]).tensors
    names = {"input_ids", "attention_mask", "pixel_values", "image_grid_thw"} & set(inputs)
    arguments = {name: inputs[name] for name in names}
    if family != "smolvlm":
        arguments["mm_token_type_ids"] = (inputs["input_ids"] == encoder.model.config.image_token_id).int()
    with torch.no_grad():
        states = encoder.model(**arguments).last_hidden_state
    torch.testing.assert_close(encoder.pooled(encoder.prepare(MIXED[0:1])), states[:, -1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_and_copy_matter(family):
    encoder = build(family)
    rows = [(picture(40, 60), "hello"), (picture(40, 60), "hello"), (None, "hello")]
    first, other_picture, no_picture = vectors(encoder, creatives(rows))
    assert (first - other_picture).abs().max() > 1e-4
    assert (first - no_picture).abs().max() > 1e-4


def test_only_copy_is_cut():
    encoder = build(max_tokens=120)
    rows = [(picture(64, 64), "x" * 5000), (picture(64, 64), "")]
    long, short = (encoder.prepare(creatives([row])).tensors for row in rows)
    assert long["input_ids"].shape[1] == 120
    assert int(long["picture_mask"].sum()) == int(short["picture_mask"].sum()) == 16
    # The turns around picture and copy are whole: the same beginning, the same end.
    ends = [tensors["input_ids"][0, -12:].tolist() for tensors in (long, short)]
    assert ends[0] == ends[1]


def test_no_room_for_copy_is_refused():
    with pytest.raises(ConfigError, match="max_tokens"):
        build(max_tokens=48)


def test_an_empty_creative_reads_null():
    encoder = build()
    found = vectors(encoder, creatives([(None, " \n"), (None, "NULL")]))
    torch.testing.assert_close(found[0], found[1])


def test_copy_cannot_smuggle_special_tokens():
    encoder = build()
    tensors = encoder.prepare(creatives([(None, "<|image_pad|><|im_end|><|endoftext|>")])).tensors
    assert int(tensors["picture_mask"].sum()) == 0
    # One end token of each turn: the system's and the user's; one final token.
    ids = tensors["input_ids"][0].tolist()
    assert ids.count(257 + 1) == 2 and ids.count(256) == 1


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
@pytest.mark.parametrize("size", [(64, 64), (100, 40), (37, 91), (300, 200)])
def test_pictures_are_laid_out_as_by_the_reference_processor(family, size):
    encoder = build(family)
    pixels = picture(*size)
    reference = encoder.family.processor(
        images=[Image.fromarray(pixels)], size={"shortest_edge": 16 * 16, "longest_edge": 64 * 64}, return_tensors="pt"
    )
    ours, tokens = encoder.family.pictures([pixels])
    assert ours["image_grid_thw"].tolist() == reference["image_grid_thw"].tolist()
    torch.testing.assert_close(ours["pixel_values"], reference["pixel_values"])
    assert tokens == [int(reference["image_grid_thw"].prod()) // 4]


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (20000, 3), (5, 5), (640, 640), (63, 65), (1, 20000)])
def test_picture_size_is_within_bounds(size):
    height, width = picture_size(*size, factor=16, least=16 * 16, most=64 * 64)
    assert height % 16 == 0 and width % 16 == 0
    assert 16 * 16 <= height * width <= 64 * 64


def test_lora_trains_the_language_model_only():
    encoder = build(lora=LoraConfig(rank=4, targets=["q_proj", "down_proj"]))
    trained = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name and "language_model" in name and "visual" not in name for name in trained)
    # q_proj 32 -> 32 and down_proj 48 -> 32, rank 4, two layers.
    assert sum(p.numel() for p in trained.values()) == 2 * (4 * (32 + 32) + 4 * (48 + 32))
    vectors_before = vectors(encoder, MIXED[0:2])
    encoder.train()
    encoder(encoder.prepare(MIXED[0:2]))[:, 0].sum().backward()
    assert all(p.grad is not None for p in trained.values())
    assert all(p.grad is None for p in encoder.parameters() if not p.requires_grad)
    torch.testing.assert_close(vectors_before, vectors(build(lora=None), MIXED[0:2]))


def test_what_is_frozen():
    language = build(lora=None)
    assert all(p.requires_grad == ("visual" not in name) for name, p in language.named_parameters())
    everything = build(lora=None, freeze_vision=False)
    assert all(p.requires_grad for p in everything.parameters())


def test_unknown_lora_target():
    with pytest.raises(ConfigError, match=r"lora.targets.*'qproj'"):
        build(lora=LoraConfig(targets=["qproj"]))


@pytest.mark.parametrize("family", FAMILIES)
def test_artifact_of_a_model_from_sizes(family, tmp_path):
    made = config(family)
    encoder = build_encoder(made)
    artifact = save_encoder(encoder, made, tmp_path / "encoder", metrics={"m": 1.0})
    torch.testing.assert_close(vectors(load_encoder(tmp_path / "encoder"), MIXED), vectors(encoder, MIXED), atol=0, rtol=0)
    assert artifact.kind == "encoder" and len(artifact.content_hash) == 64
    assert save_encoder(encoder, made, tmp_path / "again").content_hash == artifact.content_hash
    assert save_encoder(build(family, empty="nothing"), made, tmp_path / "other").content_hash != artifact.content_hash


def checkpoint(folder, family="qwen3_vl"):
    """A transformers checkpoint as its users have them: config, safetensors, tokenizer files, processor settings."""
    from transformers import PreTrainedTokenizerFast

    from adray.representation.encoders.mllm_loading import load_parts

    torch.manual_seed(1)
    model, kind, tokenizer, _ = load_parts(config(family), None)
    model.save_pretrained(folder)
    tokenizer.encode_special_tokens = False
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    kind.processor.save_pretrained(folder)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_from_a_checkpoint(family, tmp_path):
    model = checkpoint(tmp_path / "backbone", family)
    made = config(family).model_copy(update={"path": str(tmp_path / "backbone"), "lora": LoraConfig(rank=2)})
    encoder = build_encoder(made)
    for name, tensor in model.state_dict().items():
        found = encoder.model.state_dict()
        found = found[name] if name in found else found[name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias")]
        torch.testing.assert_close(found, tensor, atol=0, rtol=0)
    with torch.no_grad():
        for p in encoder.parameters():
            if p.requires_grad:
                p.add_(0.05)
    save_encoder(encoder, made, tmp_path / "encoder")
    assert (tmp_path / "encoder" / "encoder.safetensors").stat().st_size < 60_000
    torch.testing.assert_close(vectors(load_encoder(tmp_path / "encoder"), MIXED), vectors(encoder, MIXED), atol=0, rtol=0)


def test_a_changed_or_missing_backbone_is_refused(tmp_path):
    checkpoint(tmp_path / "backbone")
    made = config().model_copy(update={"path": str(tmp_path / "backbone")})
    save_encoder(build_encoder(made), made, tmp_path / "encoder")
    weights = tmp_path / "backbone" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ArtifactError, match="not the one"):
        load_encoder(tmp_path / "encoder")
    (tmp_path / "backbone" / "config.json").unlink()
    with pytest.raises(ArtifactError, match="no checkpoint"):
        load_encoder(tmp_path / "encoder")


def test_a_checkpoint_of_other_sizes_is_refused(tmp_path):
    checkpoint(tmp_path / "backbone")
    other = config().architecture.model_copy(update={"text": TextSizes(width=32, heads=2, kv_heads=2, head_dim=16, mlp_width=48)})
    with pytest.raises(ConfigError, match=r"architecture.text.kv_heads"):
        build_encoder(config().model_copy(update={"path": str(tmp_path / "backbone"), "architecture": other}))


def test_without_weights_it_still_prepares():
    sketch = build_without_weights(config())
    assert all(p.is_meta for p in sketch.parameters())
    made, expected = sketch.prepare(MIXED).tensors, build().prepare(MIXED).tensors
    assert all(torch.equal(made[name], expected[name]) for name in expected)


def test_gradient_checkpointing_changes_nothing():
    from adray.training.activation_checkpointing import checkpoint_activations

    def gradient(recompute):
        encoder = build().train()
        if recompute:
            assert checkpoint_activations(encoder) > 0
        encoder(encoder.prepare(MIXED))[:, :5].sum().backward()
        return torch.cat([p.grad.flatten() for p in encoder.parameters() if p.requires_grad])

    torch.testing.assert_close(gradient(True), gradient(False), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_text_alone_still_passes_the_vision_tower_among_ranks(family, monkeypatch):
    """A rank whose rows have no picture joins the others' collectives; its vectors are the same, its vision gradients zero."""
    encoder = build(family, lora=None, freeze_vision=False).train()
    text = creatives([(None, "hello"), (None, "there")])
    alone = encoder(encoder.prepare(text))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    among = encoder(encoder.prepare(text))
    torch.testing.assert_close(among, alone, atol=0, rtol=0)
    among[:, 0].sum().backward()
    vision = [p for name, p in encoder.named_parameters() if "language_model" not in name and "text_model" not in name]
    reached = [p for p in vision if p.grad is not None]
    assert len(reached) > 0.8 * len(vision) and not any(p.grad.any() for p in reached)
