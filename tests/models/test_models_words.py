"""Equation (1): words computed by hand and through the text encoder's own layers."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTextModelWithProjection

from fourdistill.models.base.model import load_base
from fourdistill.models.words import Spoken, combine, encode_single_tokens, say

BATCH, LAYERS, WORDS, WIDTH = 2, 3, 4, 32


@pytest.fixture(scope="module")
def text_encoder(tiny_base):
    return load_base(str(tiny_base)).text_encoder


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def spoken():
    bypasses = (draw(BATCH, LAYERS, WORDS, WIDTH, seed=seed) for seed in (1, 2))
    return Spoken(0.02 * draw(BATCH, 1, WORDS, WIDTH), *bypasses)


def clip(text_encoder, v_base):
    """CLIP(v_base) of one vector (D,), through the text encoder's own layers and attention."""
    states = text_encoder.encoder(inputs_embeds=v_base.reshape(1, 1, -1)).last_hidden_state
    return text_encoder.final_layer_norm(states)[0, 0]


def test_equation_1_by_hand():
    clip_base, v_bypass = torch.tensor([3.0, 4.0]), torch.tensor([0.0, -2.0])
    assert combine(clip_base, v_bypass, 0.2).tolist() == pytest.approx([3, 3])  # 4 - 0.2 * 5
    assert combine(clip_base, v_bypass, 3.0).tolist() == pytest.approx([3, -11])


def test_single_tokens_in_one_pass_equal_passes_one_by_one(text_encoder):
    v_base = 0.02 * draw(2, 3, WIDTH)
    together = encode_single_tokens(text_encoder, v_base)
    assert together.shape == (2, 3, WIDTH)
    for i in range(2):
        for j in range(3):
            assert torch.allclose(together[i, j], clip(text_encoder, v_base[i, j]), atol=1e-6)


def test_a_text_encoder_with_a_projection_says_the_same(text_encoder):
    nested = CLIPTextModelWithProjection(text_encoder.config).eval()
    nested.text_model.load_state_dict(text_encoder.state_dict())
    v_base = 0.02 * draw(5, WIDTH)
    assert torch.equal(encode_single_tokens(nested, v_base), encode_single_tokens(text_encoder, v_base))


def test_every_word_of_every_layer_follows_equation_1(text_encoder, spoken):
    words = say(text_encoder, spoken, 0.7)
    for found, bypass in ((words.keys, spoken.key_bypass), (words.values, spoken.value_bypass)):
        assert found.shape == (BATCH, LAYERS, WORDS, WIDTH)
        for b in range(BATCH):
            for n in range(WORDS):
                base = clip(text_encoder, spoken.v_base[b, 0, n])
                for layer in range(LAYERS):
                    way = bypass[b, layer, n]
                    expected = base + 0.7 * base.norm() * way / way.norm()
                    assert torch.allclose(found[b, layer, n], expected, atol=1e-5)


def test_a_base_for_every_layer_is_that_layer_s_own(text_encoder, spoken):
    v_base = 0.02 * draw(BATCH, LAYERS, WORDS, WIDTH)
    whole = say(text_encoder, dataclasses.replace(spoken, v_base=v_base), 0.7)
    for layer in range(LAYERS):
        alone = say(text_encoder, dataclasses.replace(spoken, v_base=v_base[:, layer : layer + 1]), 0.7)
        assert torch.allclose(whole.keys[:, layer], alone.keys[:, layer], atol=1e-6)
        assert torch.allclose(whole.values[:, layer], alone.values[:, layer], atol=1e-6)


def test_lambda_0_is_clip_of_the_base_alone(text_encoder, spoken):
    clip_base = encode_single_tokens(text_encoder, spoken.v_base).expand(-1, LAYERS, -1, -1)
    for lambda_ in (0.0, torch.zeros(BATCH)):
        words = say(text_encoder, spoken, lambda_)
        assert torch.equal(words.keys, clip_base) and torch.equal(words.values, clip_base)


@given(st.floats(-10, 10), st.floats(1e-3, 1e3))
def test_the_bypass_is_lambda_times_as_long_as_the_base_however_long_it_was(lambda_, length):
    clip_base, v_bypass = 20 * draw(WORDS, WIDTH), draw(WORDS, WIDTH, seed=1)
    way = combine(clip_base, length * v_bypass, lambda_) - clip_base
    assert torch.allclose(way.norm(dim=-1), abs(lambda_) * clip_base.norm(dim=-1), rtol=1e-4, atol=1e-3)
    assert torch.allclose(way, combine(clip_base, v_bypass, lambda_) - clip_base, rtol=1e-4, atol=1e-3)


def test_lambda_may_be_one_a_sample(text_encoder, spoken):
    lambdas = (0.3, 4.0)
    together = say(text_encoder, spoken, torch.tensor(lambdas))
    for sample, lambda_ in enumerate(lambdas):
        alone = say(text_encoder, spoken, lambda_)
        assert torch.allclose(together.keys[sample], alone.keys[sample], atol=1e-5)
        assert torch.allclose(together.values[sample], alone.values[sample], atol=1e-5)
    assert not torch.allclose(together.keys[1], say(text_encoder, spoken, lambdas[0]).keys[1], atol=0.1)


def test_keys_and_values_have_bypasses_of_their_own(text_encoder, spoken):
    before = say(text_encoder, spoken, 0.7)
    other = draw(BATCH, LAYERS, WORDS, WIDTH, seed=3)
    turned = say(text_encoder, dataclasses.replace(spoken, key_bypass=other), 0.7)
    assert torch.equal(turned.values, before.values)
    assert ((turned.keys - before.keys).abs().amax(dim=-1) > 0.1).all()  # every word of every layer
    turned = say(text_encoder, dataclasses.replace(spoken, value_bypass=other), 0.7)
    assert torch.equal(turned.keys, before.keys)
    assert ((turned.values - before.values).abs().amax(dim=-1) > 0.1).all()


def test_all_words_go_through_the_text_encoder_at_once(text_encoder, spoken):
    sequences = []
    hook = text_encoder.encoder.layers[0].mlp.register_forward_pre_hook(lambda _, args: sequences.append(args[0].shape))
    say(text_encoder, spoken, 1.0)
    hook.remove()
    assert sequences == [(BATCH * WORDS, WIDTH)]


def test_a_bypass_of_zeros_leads_nowhere_in_half_precision_too():
    clip_base = torch.tensor([[3.0, 4.0]], dtype=torch.float16)
    assert torch.equal(combine(clip_base, torch.zeros(1, 2, dtype=torch.float16), 3.0), clip_base)
