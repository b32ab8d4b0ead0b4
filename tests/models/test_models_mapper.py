"""The mapper's closed-form initialisation: frozen text keys and values of words equal those of image tokens."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from torch import nn
from torch.nn import functional as F

from fourdistill.models.mapper import Mapper, solve, unseen

TOKENS, TOKEN_WIDTH, WIDTH = 4, 20, 24
INNER = (10, 16, 24, 30)  # widths of the layers: below, equal to, and above the text's
NARROW = range(2)  # layers whose weights have a null space
LONG = 1e4  # longer than any bypass without filling


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(inputs, outputs, seed):
    layer = nn.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=seeded(seed)))
    return layer


@pytest.fixture(scope="module")
def parts() -> Any:
    """An IP-Adapter's parts, and the text branch's key and value maps of each layer."""
    projector = IPAdapterPlusImageProjection(
        embed_dims=8, output_dims=TOKEN_WIDTH, hidden_dims=16, depth=1, dim_head=8, heads=1, num_queries=TOKENS
    )
    with torch.no_grad():
        projector.norm_out.weight.copy_(0.5 + torch.rand(TOKEN_WIDTH, generator=seeded(1)))
        projector.norm_out.bias.copy_(torch.randn(TOKEN_WIDTH, generator=seeded(2)))
    image_k, image_v = ([linear(TOKEN_WIDTH, inner, 10 * k + i) for i, inner in enumerate(INNER)] for k in (1, 2))
    to_k, to_v = ([linear(WIDTH, inner, 10 * k + i) for i, inner in enumerate(INNER)] for k in (3, 4))
    ip_adapter = SimpleNamespace(projector=projector, to_k_ip=image_k, to_v_ip=image_v)
    return SimpleNamespace(ip_adapter=ip_adapter, to_k=to_k, to_v=to_v)


def start(parts, length, num_words=TOKENS, rank=None) -> Mapper:
    shared = {"num_words": num_words, "width": WIDTH, "token_std": 0.02, "rank": rank, "generator": seeded()}
    mapper = Mapper(len(INNER), TOKENS, TOKEN_WIDTH, **shared)
    mapper.start_from(parts.ip_adapter, parts.to_k, parts.to_v, length)
    return mapper


def draw_tokens(parts, count):
    """Random outputs of the projector's last norm, (count, T, C)."""
    return parts.ip_adapter.projector.norm_out(torch.randn(count, TOKENS, TOKEN_WIDTH, generator=seeded(3)))


def of_keys_and_values(parts, spoken):
    """(bypasses of every layer, text branch's maps, image prompt's maps), for keys, then for values."""
    yield spoken.key_bypass, parts.to_k, parts.ip_adapter.to_k_ip
    yield spoken.value_bypass, parts.to_v, parts.ip_adapter.to_v_ip


@torch.no_grad()
@pytest.mark.parametrize("length", [0.0, LONG])
def test_the_text_branch_makes_of_a_bypass_what_the_image_prompt_makes_of_its_token(parts, length):
    tokens = draw_tokens(parts, 2)
    for bypass, text, image in of_keys_and_values(parts, start(parts, length)(tokens)):
        assert bypass.shape == (2, len(INNER), TOKENS, WIDTH)
        for layer in range(3):  # W W^+ is the identity if the layer is not wider than the text
            wanted = image[layer](tokens)
            assert torch.allclose(text[layer](bypass[:, layer]), wanted, atol=1e-5 * max(length, 100))
        # For the last layer it is the least-squares solution: the residual is orthogonal to the range.
        left = text[3](bypass[:, 3]) - image[3](tokens)
        assert left.norm() > 1 and (left @ text[3].weight).abs().max() < 1e-3


@torch.no_grad()
def test_equation_1_keeps_them_up_to_a_scale_that_is_one_on_average(parts):
    length, tokens = 400.0, draw_tokens(parts, 500)
    for bypass, text, image in of_keys_and_values(parts, start(parts, length)(tokens)):
        for layer in NARROW:
            scaled = length * F.normalize(bypass[:, layer], dim=-1)  # lambda |CLIP(v_base)| v_bypass / |v_bypass|
            found, wanted = text[layer](scaled), image[layer](tokens)
            assert F.cosine_similarity(found, wanted, dim=-1).min() > 0.9999
            scale = found.norm(dim=-1) / wanted.norm(dim=-1)
            assert scale.mean().item() == pytest.approx(1, abs=0.02) and scale.std() < 0.1


@torch.no_grad()
@pytest.mark.parametrize("kind", [0, 1], ids=["keys", "values"])
def test_short_words_are_filled_up_by_what_nobody_hears(parts, kind):
    tokens = draw_tokens(parts, 2000)
    bare, text, _ = list(of_keys_and_values(parts, start(parts, 0.0)(tokens)))[kind]
    length = 1.1 * max(bare[:, layer].square().sum(dim=-1).mean().sqrt().item() for layer in NARROW)
    filled, _, _ = list(of_keys_and_values(parts, start(parts, length)(tokens)))[kind]
    for layer in range(len(INNER)):
        added = filled[:, layer] - bare[:, layer]
        assert (added - added[0, 0]).abs().max() < 1e-3 * length  # equal for all words
        if layer in NARROW:
            assert added[0, 0].norm() > 0.3 * length and text[layer](added).abs().max() < 1e-4 * length
            assert filled[:, layer].square().sum(dim=-1).mean().sqrt().item() == pytest.approx(length, rel=0.02)
        else:
            assert not added.any()


@torch.no_grad()
def test_long_words_are_left_as_they_are(parts):
    biases = {name: value for name, value in start(parts, 0.0).state_dict().items() if re.match("to_[kv].*bias", name)}
    assert len(biases) == 2 * len(INNER) and not any(value.any() for value in biases.values())


@torch.no_grad()
@pytest.mark.parametrize("num_words", [1, 2, 3, 4, 8])
def test_fewer_or_more_words_than_tokens_begin_as_averages_of_neighbours(parts, num_words):
    tokens = draw_tokens(parts, 2)
    means = {
        1: tokens.mean(dim=1, keepdim=True),
        2: tokens.unflatten(1, (2, 2)).mean(dim=2),
        3: (tokens[:, :-1] + tokens[:, 1:]) / 2,
        4: tokens,
        8: tokens.repeat_interleave(2, dim=1),
    }[num_words]
    mapper = start(parts, 0.0, num_words)
    spoken = mapper(tokens)
    assert spoken.v_base.shape == (2, 1, num_words, WIDTH)
    for bypass, text, image in of_keys_and_values(parts, spoken):
        for layer in range(3):
            assert torch.allclose(text[layer](bypass[:, layer]), image[layer](means), atol=1e-3)


@torch.no_grad()
def test_bases_tell_words_apart_and_are_as_large_as_tokens(parts):
    tokens = draw_tokens(parts, 2)
    mapper = start(parts, 0.0)
    same = tokens[:, :1].expand(-1, TOKENS, -1)
    v_base = mapper(same).v_base  # (2, 1, TOKENS, D)
    by_hand = (mapper.to_base(same) + mapper.word) * 0.02
    assert torch.allclose(v_base[:, 0], by_hand)
    assert all((v_base[:, :, i] - v_base[:, :, j]).abs().max() > 0.01 for i in range(TOKENS) for j in range(i))
    assert not torch.allclose(v_base[0], v_base[1], atol=1e-3)  # nor are those of two pictures
    assert mapper.word.std().item() == pytest.approx(1, abs=0.2)


def test_the_generator_decides_the_words():
    shared = {"num_words": TOKENS, "width": WIDTH, "token_std": 0.02}
    first, again, other = (Mapper(2, TOKENS, TOKEN_WIDTH, **shared, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.word, again.word) and not torch.equal(first.word, other.word)


@pytest.mark.parametrize("inner", [1, 10, 23])
def test_unseen_is_a_unit_vector_that_the_weight_makes_nothing_of(inner):
    weight = torch.randn(inner, WIDTH, generator=seeded())
    direction = unseen(weight)
    assert direction.shape == (WIDTH,) and direction.norm().item() == pytest.approx(1, abs=1e-5)
    assert (weight @ direction).abs().max() < 1e-4


@pytest.mark.parametrize("inner", [24, 40])
def test_a_weight_that_is_as_wide_hears_everything(inner):
    assert torch.equal(unseen(torch.randn(inner, WIDTH, generator=seeded())), torch.zeros(WIDTH))


@torch.no_grad()
@pytest.mark.parametrize("length", [0.0, 400.0])
def test_of_low_rank_it_begins_the_same(parts, length):
    tokens = draw_tokens(parts, 2)
    whole, low = start(parts, length)(tokens), start(parts, length, rank=2)(tokens)
    for expected, found in ((whole.key_bypass, low.key_bypass), (whole.value_bypass, low.value_bypass)):
        assert (found - expected).abs().max() < 1e-3 * expected.abs().max()


def test_of_low_rank_few_weights_are_trained_and_saved(parts):
    mapper = start(parts, 0.0, rank=2)
    trained = dict(mapper.named_parameters())
    assert trained.keys() == mapper.state_dict().keys()
    assert {name.rsplit(".")[-1] for name in trained if name.startswith("to_key")} == {"down", "up", "bias"}
    first: Any = mapper.to_key[0]
    before = first.weight.clone()
    optimizer = torch.optim.Adam(mapper.parameters(), lr=0.01)
    target = torch.randn(2, TOKENS, WIDTH, generator=seeded(5))
    losses = []
    for _ in range(30):
        loss = (mapper(draw_tokens(parts, 2)).key_bypass[:, 0] - target).square().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0] and torch.equal(first.weight, before)
    assert torch.linalg.matrix_rank(first.up @ first.down) == 2


@torch.no_grad()
@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("silent_rows", [0, 2])
def test_the_solution_is_that_of_the_pseudo_inverse(inner, silent_rows):
    weight, target = linear(WIDTH, inner, 7).weight, linear(TOKEN_WIDTH, inner, 8).weight
    weight[:silent_rows] = 0
    expected = torch.linalg.pinv(weight.double()) @ target.double()
    assert (solve(weight, target) - expected).abs().max() < 1e-5 * expected.abs().max()
