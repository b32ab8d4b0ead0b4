import pytest
import torch
from diffusers import StableDiffusionPipeline

from fourdistill.models import attention
from fourdistill.models.attention import Conditioning, LayerAttnProcessor, SelfAttnProcessor, cross_attention_names
from fourdistill.models.base.model import load_base
from fourdistill.models.words import Words


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(str(tiny_base))


@pytest.fixture
def noisy(base):
    generator = torch.Generator().manual_seed(0)
    width = base.unet.config.cross_attention_dim
    return torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, width, generator=generator)


def words_like(base, text, num_words, seed=1):
    generator, layers = torch.Generator().manual_seed(seed), len(cross_attention_names(base.unet))
    shape = (len(text), layers, num_words, text.shape[-1])
    return Words(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))


def image_like(base, text, seed=2):
    generator = torch.Generator().manual_seed(seed)
    widths = [base.unet.get_submodule(f"{name}.to_k").out_features for name in cross_attention_names(base.unet)]
    return [tuple(torch.randn(len(text), 3, w, generator=generator) for w in widths) for _ in range(2)]


@torch.no_grad()
def predict(unet, latents, conditioning):
    return unet(latents, 500, encoder_hidden_states=conditioning).sample


def test_layers_are_bound_in_execution_order(base, noisy):
    latents, text = noisy
    executed, handles = [], []
    for name, module in base.unet.named_modules():
        if name.endswith("attn2"):
            handles.append(module.register_forward_hook(lambda *_, name=name: executed.append(name)))
    predict(base.unet, latents, Conditioning(text))
    for handle in handles:
        handle.remove()
    assert cross_attention_names(base.unet) == executed
    layers = [base.unet.get_submodule(name).processor.layer for name in executed]
    assert layers == list(range(len(executed)))
    from_diffusers = [n.removesuffix(".processor") for n in base.unet.attn_processors if "attn2" in n]
    assert from_diffusers != executed  # diffusers lists down, up, mid instead


def test_self_attention_computes_what_stock_does(base, noisy, tiny_base):
    latents, text = noisy
    for name, processor in base.unet.attn_processors.items():
        expected = LayerAttnProcessor if name.endswith("attn2.processor") else SelfAttnProcessor
        assert isinstance(processor, expected)
    stock = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None).unet
    gradients = []
    for unet in (stock, base.unet):
        prompt = text.clone().requires_grad_()
        with torch.enable_grad():
            out = unet(latents, torch.tensor(500), prompt).sample
            out.square().sum().backward()
        gradients.append((out.detach(), prompt.grad))
    for expected, found in zip(*gradients, strict=True):
        assert torch.allclose(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_by_products_is_fused_attention(monkeypatch, masked):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, n, 8, generator=generator) for n in (7, 5, 5))
    mask = torch.rand(2, 1, 1, 5, generator=generator) > 0.3 if masked else None
    found = []
    for limit in (0, attention.MAX_SCORES):
        monkeypatch.setattr(attention, "MAX_SCORES", limit)
        leaves = [each.clone().requires_grad_() for each in (query, key, value)]
        with torch.enable_grad():
            assert attention.prefers_products(query, 2 * 3 * 7 * 5) == bool(limit)
            out = attention.attend(leaves[0], leaves[1], leaves[2], mask)
            out.square().sum().backward()
        found.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for fused, products in zip(*found, strict=True):
        assert torch.allclose(fused, products, atol=1e-6, rtol=1e-5)


def test_image_scale_zero_is_stock_text_attention(base, noisy, tiny_base):
    latents, text = noisy
    stock = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None).unet
    expected = predict(stock, latents, text)
    keys, values = image_like(base, text)
    out = predict(base.unet, latents, Conditioning(text, image_keys=keys, image_values=values, image_scale=0.0))
    assert torch.allclose(out, expected, atol=1e-5)
    assert torch.allclose(predict(base.unet, latents, text), expected, atol=1e-5)
    scaled = predict(base.unet, latents, Conditioning(text, image_keys=keys, image_values=values))
    assert not torch.allclose(scaled, expected, atol=1e-3)


def test_masked_words_have_no_influence(base, noisy):
    latents, text = noisy
    one, other = (words_like(base, text, 2, seed) for seed in (1, 9))
    seen = torch.tensor([True, False])
    masked = predict(base.unet, latents, Conditioning(text, one, seen))
    assert torch.equal(masked[1], predict(base.unet, latents, Conditioning(text, other, seen))[1])
    assert torch.allclose(masked[1], predict(base.unet, latents, Conditioning(text))[1], atol=1e-5)
    unmasked = predict(base.unet, latents, Conditioning(text, one))
    assert torch.allclose(masked[0], unmasked[0], atol=1e-5)
    assert not torch.allclose(unmasked, predict(base.unet, latents, Conditioning(text, other)), atol=1e-4)


@torch.no_grad()
def test_words_are_tokens_beside_the_prompt(base, noisy, tiny_base):
    """With the same words for keys and values of every layer, they act as a longer prompt."""
    latents, text = noisy
    layers, spoken = len(cross_attention_names(base.unet)), text.flip(0)[:, :2]  # (B, n, D)
    everywhere = spoken[:, None].expand(-1, layers, -1, -1)
    out = predict(base.unet, latents, Conditioning(text, Words(everywhere, everywhere)))
    stock = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None).unet
    assert torch.allclose(out, predict(stock, latents, torch.cat([text, spoken], dim=1)), atol=1e-5)


def test_each_layer_reads_its_own_words_for_keys_and_for_values(base, noisy):
    latents, text = noisy
    names = cross_attention_names(base.unet)
    contexts = {}
    handles = [
        base.unet.get_submodule(f"{name}.{kind}").register_forward_pre_hook(
            lambda _, args, key=(name, kind): contexts.update({key: args[0]})
        )
        for name in names
        for kind in ("to_k", "to_v")
    ]
    words = words_like(base, text, 3)
    predict(base.unet, latents, Conditioning(text, words))
    for handle in handles:
        handle.remove()
    for layer, name in enumerate(names):
        assert torch.equal(contexts[name, "to_k"], torch.cat([text, words.keys[:, layer]], dim=1))
        assert torch.equal(contexts[name, "to_v"], torch.cat([text, words.values[:, layer]], dim=1))


def test_gradients_survive_gradient_checkpointing(base, noisy):
    latents, text = noisy
    gradients = []
    for checkpointing in (False, True):
        words = words_like(base, text, 2)
        parts = (words.keys.requires_grad_(), words.values.requires_grad_())
        base.unet.train(checkpointing)
        if checkpointing:
            base.unet.enable_gradient_checkpointing()
        loss = base.unet(latents, 500, encoder_hidden_states=Conditioning(text, words)).sample.square().mean()
        gradients.append(torch.autograd.grad(loss, parts))
    base.unet.disable_gradient_checkpointing()
    base.unet.eval()
    for plain, again in zip(*gradients, strict=True):
        assert plain.abs().sum(dim=(0, 2, 3)).min() > 0  # every layer has gradients
        assert torch.allclose(plain, again, rtol=1e-4, atol=1e-9)
