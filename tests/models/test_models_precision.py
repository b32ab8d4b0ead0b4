import pytest
import torch

from fourdistill.models.base.model import load_base
from fourdistill.models.base.precision import autocast, resolve_precision, store_weights

CPU = torch.device("cpu")


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "no")])
def test_auto_is_bf16_only_where_the_processor_computes_it(monkeypatch, supported, expected):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("fp16", CPU) == "fp16" and resolve_precision("no", CPU) == "no"


@pytest.mark.parametrize(("name", "dtype"), [("no", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_named_format(name, dtype):
    layer = torch.nn.Linear(4, 4)
    with autocast(name, CPU):
        assert layer(torch.ones(2, 4)).dtype == dtype


def test_weights_stored_in_the_format_of_autocast_change_no_bit(tiny_base):
    base = load_base(str(tiny_base))
    latents, text = torch.randn(2, 4, 8, 8), torch.randn(2, 8, base.unet.config["cross_attention_dim"])

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        given = text.clone().requires_grad_()
        with autocast("bf16", CPU):
            out = base.unet(latents, torch.tensor([3, 900]), encoder_hidden_states=given).sample
        out.float().square().mean().backward()
        assert given.grad is not None
        return out.detach(), given.grad

    as_loaded = run()
    store_weights(base.unet, "bf16")
    stored = run()
    assert all(torch.equal(a, b) for a, b in zip(as_loaded, stored, strict=True))
    assert base.unet.dtype == torch.float32  # of latents that a pipeline draws
    half = [name for name, weights in base.unet.named_parameters() if weights.dtype == torch.bfloat16]
    assert any(name.endswith("to_k.weight") for name in half) and not any("norm" in name for name in half)


def test_without_mixed_precision_weights_stay(tiny_base):
    base = load_base(str(tiny_base))
    store_weights(base.unet, "no")
    assert {weights.dtype for weights in base.unet.parameters()} == {torch.float32}
