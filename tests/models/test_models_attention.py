import pytest
import torch
from diffusers import StableDiffusionPipeline

from fourdistill.models.attention import Conditioning, LayerAttnProcessor, cross_attention_names
from fourdistill.models.base import load_base


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(str(tiny_base))


@pytest.fixture
def noisy(base):
    generator = torch.Generator().manual_seed(0)
    width = base.unet.config.cross_attention_dim
    return torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, width, generator=generator)


def control_like(text, num_layers, num_tokens, seed=1):
    shape = (len(text), num_layers, num_tokens, text.shape[-1])
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


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
    assert from_diffusers != executed  # the trap: diffusers lists down, up, mid


def test_self_attention_keeps_stock_processors(base):
    for name, processor in base.unet.attn_processors.items():
        assert isinstance(processor, LayerAttnProcessor) == name.endswith("attn2.processor")


def test_image_scale_zero_is_stock_text_attention(base, noisy, tiny_base):
    latents, text = noisy
    stock = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None).unet
    expected = predict(stock, latents, text)
    keys, values = image_like(base, text)
    for scale in (0.0, torch.zeros(2)):
        out = predict(base.unet, latents, Conditioning(text, image_keys=keys, image_values=values, image_scale=scale))
        assert torch.allclose(out, expected, atol=1e-5)
    assert torch.allclose(predict(base.unet, latents, text), expected, atol=1e-5)
    scaled = predict(base.unet, latents, Conditioning(text, image_keys=keys, image_values=values))
    assert not torch.allclose(scaled, expected, atol=1e-3)


def test_masked_tokens_have_no_influence(base, noisy):
    latents, text = noisy
    layers = len(cross_attention_names(base.unet))
    one, other = (control_like(text, layers, 2, seed) for seed in (1, 9))
    mask = torch.tensor([[True, False], [False, False]])
    other[0, :, 0] = one[0, :, 0]  # the only token that is seen
    masked = predict(base.unet, latents, Conditioning(text, one, mask))
    assert torch.equal(masked, predict(base.unet, latents, Conditioning(text, other, mask)))
    assert torch.allclose(masked[1], predict(base.unet, latents, Conditioning(text))[1], atol=1e-5)
    unmasked = predict(base.unet, latents, Conditioning(text, one))
    assert not torch.allclose(unmasked, predict(base.unet, latents, Conditioning(text, other)), atol=1e-4)


def test_each_layer_reads_its_own_control_tokens(base, noisy):
    latents, text = noisy
    names = cross_attention_names(base.unet)
    contexts = {}
    handles = [
        base.unet.get_submodule(f"{name}.to_k").register_forward_pre_hook(
            lambda _, args, name=name: contexts.update({name: args[0]})
        )
        for name in names
    ]
    control = control_like(text, len(names), 1)
    predict(base.unet, latents, Conditioning(text, control))
    for handle in handles:
        handle.remove()
    for layer, name in enumerate(names):
        assert torch.equal(contexts[name], torch.cat([text, control[:, layer]], dim=1))


def test_gradients_survive_gradient_checkpointing(base, noisy):
    latents, text = noisy
    layers = len(cross_attention_names(base.unet))
    gradients = []
    for checkpointing in (False, True):
        control = control_like(text, layers, 2).requires_grad_()
        base.unet.train(checkpointing)
        if checkpointing:
            base.unet.enable_gradient_checkpointing()
        loss = base.unet(latents, 500, encoder_hidden_states=Conditioning(text, control)).sample.square().mean()
        gradients.append(torch.autograd.grad(loss, control)[0])
    base.unet.disable_gradient_checkpointing()
    base.unet.eval()
    assert gradients[0].abs().sum(dim=(0, 2, 3)).min() > 0  # every layer is reached
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-9)
