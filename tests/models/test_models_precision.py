import pytest
import torch

from fourdistill.models.base.precision import autocast, resolve_precision

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
