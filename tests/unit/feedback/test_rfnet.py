from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn

from adray.artifact import load_artifact
from adray.data.labels import LABELS
from adray.errors import ArtifactError
from adray.feedback.artifact import export_inspector, load_inspector
from adray.feedback.checks import activation_bytes, meta_inputs
from adray.feedback.config import PICTURES, MapsConfig, RFNetConfig, SingleConfig, TextConfig, TrunkConfig
from adray.feedback.encoders import Titles
from adray.feedback.inputs import PROMPT_WORDS, Inputs, modalities, on_white, prompt_words
from adray.feedback.module import InspectorModule
from adray.feedback.rfnet import FeatureFilter, RFNet, build, places
from adray.feedback.task import label_weights

TRUNK = TrunkConfig(stem=8, widths=[8, 16], depths=[1, 1])
SMALL = {"image_size": 32, "width": 16, "heads": 2, "trunk": TRUNK, "text": TextConfig(vocabulary=64, width=16, heads=2)}
TITLES = ["Alta mini Kettle", "Bo giant Chair", "", "水壶 mini"]


def inputs(model, n=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    side = model.image_size
    pictures = {name: torch.rand(n, 3, side, side, generator=generator) for name in PICTURES}
    tokens, mask = Titles(16, 64, None)([TITLES[i % 4] for i in range(n)])
    return Inputs(pictures, tokens, mask, torch.arange(n) % 5)


@pytest.mark.parametrize(
    "fields", [{}, {"concat": "channels"}, {"pool": "token"}, {"shared_trunk": False}, {"filter_blocks": 2, "fusion_layers": 3}]
)
def test_four_pictures_and_a_title_give_five_logits(fields):
    model = RFNetConfig(**SMALL, **fields)
    net = build(model)
    logits = net(inputs(model))
    assert logits.shape == (4, 5)
    logits.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for n, p in net.named_parameters() if "embeddings" not in n)


@pytest.mark.parametrize("removed", [*PICTURES, "copy"])
def test_a_removed_modality_keeps_shapes_and_is_not_read(removed):
    model = RFNetConfig(**SMALL, modalities=[name for name in (*PICTURES, "copy") if name != removed])
    net = build(model).eval()
    given = inputs(model)
    before = net(given)
    assert before.shape == (4, 5)
    assert removed not in modalities(model)
    if removed == "copy":
        other = Inputs(given.pictures, given.tokens + 1, given.mask)
    else:
        other = Inputs({**given.pictures, removed: torch.rand(4, 3, 32, 32)}, given.tokens, given.mask)
    assert torch.equal(net(other), before)


@pytest.mark.parametrize("name", [*PICTURES, "copy"])
def test_every_modality_is_read(name):
    torch.manual_seed(0)
    model = RFNetConfig(**SMALL)
    net = build(model).eval()
    given = inputs(model)
    other = Inputs({**given.pictures, name: torch.rand(4, 3, 32, 32)}, given.tokens, given.mask)
    if name == "copy":
        other = Inputs(given.pictures, given.tokens.roll(1, 0), given.mask.roll(1, 0))
    assert (net(other) - net(given)).abs().max() > 1e-6


@pytest.mark.parametrize("pool", ["mean", "token"])
def test_padding_the_title_changes_nothing(pool):
    model = RFNetConfig(**SMALL, pool=pool)
    net = build(model).eval()
    given = inputs(model)
    padded = Inputs(
        given.pictures, torch.nn.functional.pad(given.tokens, (0, 5), value=1), torch.nn.functional.pad(given.mask, (0, 5), value=0)
    )
    assert torch.allclose(net(given), net(padded), atol=1e-5)


def test_the_filter_computes_its_formula():
    """e_f = Conv(Conv(CrossAttn(Q = e_o, K = V = e_c)) * Conv(e_o)) + e_o, with one head and identities by hand."""
    block = FeatureFilter(4, 1)
    with torch.no_grad():
        for conv, factor in ((block.answer, 2.0), (block.gate, 3.0), (block.mixed, 0.5)):
            nn.init.dirac_(conv.weight)
            conv.weight *= factor
            nn.init.zeros_(conv.bias)
        block.attention.in_proj_weight.copy_(torch.eye(4).repeat(3, 1))
        nn.init.zeros_(block.attention.in_proj_bias)
        block.attention.out_proj.weight.copy_(torch.eye(4))
        nn.init.zeros_(block.attention.out_proj.bias)
    picture, title = torch.randn(2, 4, 3, 3), torch.randn(2, 5, 4)
    absent = torch.tensor([[False] * 5, [False, False, True, True, True]])
    tokens = picture.flatten(2).transpose(1, 2)
    logits = (tokens @ title.transpose(1, 2) / 2.0).masked_fill(absent[:, None], -torch.inf)
    asked = (logits.softmax(2) @ title).transpose(1, 2).reshape(2, 4, 3, 3)
    assert torch.allclose(block(picture, title, absent), 0.5 * (2.0 * asked * 3.0 * picture) + picture, atol=1e-5)


def test_judgements_and_gradients_do_not_depend_on_how_a_batch_is_split():
    """One worker with 8 rows and two workers with 4 average to the same gradient."""
    torch.manual_seed(0)
    model = RFNetConfig(**SMALL)
    whole = InspectorModule(model, MapsConfig())
    halves = copy.deepcopy(whole)
    given = inputs(model, 8)
    whole(given)["loss"].backward()
    for rows in (slice(0, 4), slice(4, 8)):
        part = Inputs({n: p[rows] for n, p in given.pictures.items()}, given.tokens[rows], given.mask[rows], given.labels[rows])
        (halves(part)["loss"] / 2).backward()
    for (name, a), b in zip(whole.named_parameters(), halves.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5), name


def test_the_loss_is_the_cross_entropy_and_its_gradient_raises_available():
    model = RFNetConfig(**SMALL)
    module = InspectorModule(model, MapsConfig())
    given = inputs(model)
    good = Inputs(given.pictures, given.tokens, given.mask, torch.zeros(4, dtype=torch.int64))
    logits = module.net(good)
    by_hand = -torch.log(logits.exp()[:, 0] / logits.exp().sum(1)).mean()
    assert module(good)["loss"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    gradient = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, good.labels), logits)[0]
    assert (gradient[:, 0] < 0).all() and (gradient[:, 1:] > 0).all()


def test_what_a_title_says_passes_the_attention_at_full_strength_from_the_start():
    """From weaker starts a label that title and picture tell only together is learned much later."""
    block = FeatureFilter(32, 4)
    asking, titles = torch.randn(2, 25, 32), torch.randn(2, 1, 32)
    with torch.no_grad():
        one, other = block.attention(asking, titles, titles)[0]
    # A title of one token is passed on by two rotations, which keep lengths.
    assert torch.allclose((one - other).norm(dim=1), (titles[0] - titles[1]).norm().expand(25), rtol=1e-4)


def test_words_of_prompts_are_sets():
    found = prompt_words(["red room, red wall", "wall ROOM red", "", None, "teal room"])
    assert found.shape == (5, PROMPT_WORDS)
    assert torch.equal(found[0], found[1]) and found[0].sum() == 3
    assert found[2].sum() == found[3].sum() == 0
    assert (found[0] * found[4]).sum() == 1


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        (RFNetConfig(**SMALL), ["generated", "copy"]),
        (RFNetConfig(**SMALL, modalities=["product", "depth", "copy"]), ["copy"]),
        (RFNetConfig(**SMALL, modalities=["product", "depth"]), []),
        (SingleConfig(kind="resnet", image_size=32, trunk=TRUNK), ["generated"]),
        (SingleConfig(kind="vit", image_size=32, width=16, layers=1, heads=2), ["generated"]),
    ],
)
def test_encoders_warm_up_on_the_prompts_words_and_then_the_whole_learns(model, parts):
    module = InspectorModule(model, MapsConfig(), warm_up=0.3).train()
    given = dataclasses.replace(inputs(model), words=prompt_words(["red wall", "wall", None, ""]))
    module.before_step(0.29)
    found = module(given)
    if parts:
        assert sorted(found) == sorted(["loss", *(f"words/{name}" for name in parts)])
        # By hand: two of four rows have words; each shares the probability over its own.
        features = module.net.part_features(given)[parts[0]]
        log = torch.log_softmax(module.words[parts[0]](features), dim=1)
        red, wall = (int(prompt_words([word])[0].argmax()) for word in ("red", "wall"))
        by_hand = -((log[0, red] + log[0, wall]) / 2 + log[1, wall]) / 2
        assert found[f"words/{parts[0]}"].item() == pytest.approx(by_hand.item(), rel=1e-5)
        found["loss"].backward()
        assert module.net.classify.weight.grad is None
    else:
        assert "accuracy" in found
    module.before_step(0.3)
    assert "accuracy" in module(given)
    assert not any(name.startswith("words") for name in module.net.state_dict())


def test_the_prompts_words_join_the_loss_throughout_with_their_weight():
    model = RFNetConfig(**SMALL)
    module = InspectorModule(model, MapsConfig(), prompt_loss=0.3).train()
    given = dataclasses.replace(inputs(model), words=prompt_words(["red wall", "wall", None, ""]))
    found = module(given)
    alone = InspectorModule(model, MapsConfig())
    alone.net.load_state_dict(module.net.state_dict())
    by_hand = alone(given)["loss"] + 0.3 * (found["words/generated"] + found["words/copy"])
    assert found["loss"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    found["loss"].backward()
    assert module.net.classify.weight.grad is not None and module.words["copy"].weight.grad is not None
    assert sorted(module.eval()(given)) == ["accuracy", "loss"]


@pytest.mark.parametrize("model", [RFNetConfig(**SMALL), SingleConfig(kind="resnet", image_size=32, trunk=TRUNK)])
def test_what_the_encoders_say_on_the_way_is_what_they_say_alone(model):
    net = build(model).eval()
    given = inputs(model)
    _, parts = net.judged(given)
    alone = net.part_features(given)
    assert parts.keys() == alone.keys() and all(torch.allclose(parts[name], alone[name], atol=1e-5) for name in parts)


def test_label_weights_by_hand():
    """100 rows, n / (5 n_label): 80 rows weigh 0.25, 10 weigh 2, 5 weigh 4, and a label without rows counts as one: 20."""
    counts = dict(zip(LABELS, (80, 10, 5, 5, 0), strict=True))
    inverse, root = (label_weights(counts, name) for name in ("inverse", "root"))
    assert torch.allclose(inverse, torch.tensor([0.25, 2.0, 4.0, 4.0, 20.0]))
    assert torch.allclose(root, torch.tensor([0.5, 2.0**0.5, 2.0, 2.0, 20.0**0.5]))
    assert label_weights(counts, "none") is None


def test_padding_the_title_does_not_change_what_its_encoder_warms_up_with():
    model = RFNetConfig(**SMALL)
    net = build(model).eval()
    given = inputs(model)
    pad = torch.nn.functional.pad
    padded = Inputs(given.pictures, pad(given.tokens, (0, 5), value=1), pad(given.mask, (0, 5), value=0))
    assert torch.allclose(net.part_features(given)["copy"], net.part_features(padded)["copy"], atol=1e-5)


def test_places_are_all_different():
    found = places(4, 6, 16)
    assert found.shape == (24, 16)
    assert torch.cdist(found, found)[~torch.eye(24, dtype=torch.bool)].min() > 0.1


@pytest.mark.parametrize(
    "model",
    [
        RFNetConfig(**SMALL),
        RFNetConfig(**SMALL, modalities=["generated"], concat="channels"),
        SingleConfig(kind="resnet", image_size=32, trunk=TRUNK),
        SingleConfig(kind="vit", image_size=32, width=16, layers=1, heads=2),
    ],
)
def test_an_exported_inspector_loads_alone_and_judges_alike(model, tmp_path):
    net = build(model).eval()
    export_inspector(tmp_path / "a", net, model, MapsConfig(), {"feedback/f1": 0.5}, {"tables": {}})
    loaded = load_inspector(tmp_path / "a")
    assert load_artifact(tmp_path / "a", "rfnet").metrics == {"feedback/f1": 0.5}
    pictures, cutouts = torch.rand(3, 3, 32, 32, requires_grad=True), torch.rand(3, 4, 32, 32)
    logits = loaded(pictures, cutouts, TITLES[:3])
    maps = loaded.maps(pictures) if loaded.maps is not None else ()
    given = {"product": on_white(cutouts), "generated": pictures} | {
        n: m.expand(-1, 3, -1, -1) for n, m in zip(("depth", "saliency"), maps, strict=False)
    }
    tokens = loaded.tokenize(TITLES[:3]) or (None, None)
    assert torch.allclose(logits, net(Inputs(given, *tokens)), atol=1e-5)
    assert not any(p.requires_grad for p in loaded.parameters())
    logits[:, 0].sum().backward()
    assert pictures.grad.abs().sum() > 0


def test_gradients_pass_through_the_maps_unless_detached(tmp_path):
    model = RFNetConfig(**SMALL, modalities=["depth", "saliency"])
    export_inspector(tmp_path / "a", build(model), model, MapsConfig())
    loaded = load_inspector(tmp_path / "a")
    pictures = torch.rand(2, 3, 32, 32, requires_grad=True)
    loaded(pictures, torch.rand(2, 4, 32, 32)).sum().backward()
    assert pictures.grad.abs().sum() > 0
    assert not loaded(pictures, torch.rand(2, 4, 32, 32), detach_maps=True).requires_grad


def test_another_artifact_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no artifact"):
        load_inspector(tmp_path / "none")


def test_a_roberta_and_a_resnet_from_folders_come_with_the_artifact(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, ResNetConfig, ResNetModel, RobertaConfig, RobertaModel

    words = Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "<unk>": 3, "mini": 4, "Kettle": 5}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<pad>").save_pretrained(tmp_path / "text")
    sizes = {"vocab_size": 6, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    RobertaModel(RobertaConfig(**sizes)).save_pretrained(tmp_path / "text")
    trunk = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="bottleneck")
    ResNetModel(trunk).save_pretrained(tmp_path / "trunk")
    fields = {"text": TextConfig(path=str(tmp_path / "text")), "trunk": TrunkConfig(path=str(tmp_path / "trunk"), norm="frozen")}
    model = RFNetConfig(**{**SMALL, **fields})
    net = build(model)
    assert isinstance(net, RFNet)
    assert net.title.tokenize(["mini Kettle", "mini"])[0].tolist() == [[4, 5], [4, 1]]
    statistics = [m for m in net.train().modules() if isinstance(m, nn.BatchNorm2d)]
    assert statistics and not any(m.training for m in statistics)
    export_inspector(tmp_path / "a", net, model, MapsConfig())
    for name in ("text", "trunk"):
        (tmp_path / name).rename(tmp_path / f"{name}-gone")
    loaded = load_inspector(tmp_path / "a")
    pictures, cutouts = torch.rand(2, 3, 32, 32), torch.rand(2, 4, 32, 32)
    assert torch.allclose(loaded(pictures, cutouts, ["mini", "Kettle"]), loaded(pictures, cutouts, ["mini", "Kettle"]))


def test_memory_is_counted_without_using_any():
    model = RFNetConfig(**SMALL)
    with torch.device("meta"):
        net = build(model)
    one, four = (activation_bytes(net, model, rows, half=False) for rows in (1, 4))
    assert one > 0
    assert four == pytest.approx(4 * one, rel=0.01)
    assert activation_bytes(net, model, 4, half=True) == four // 2
    assert activation_bytes(net, model, 4, half=False, recompute=True) < four
    assert meta_inputs(model, 2).pictures["depth"].shape == (2, 3, 32, 32)
