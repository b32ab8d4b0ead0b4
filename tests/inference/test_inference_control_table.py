import pytest
import torch

from fourdistill.inference import control_table
from fourdistill.inference.control_table import tabulate
from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.base import load_base
from fourdistill.models.conditions import Conditions

TIMESTEPS = torch.tensor([900, 500, 100])
TIMES = torch.tensor([0.5, -0.25, 0.5, 0.0])
HAS_TIME = torch.tensor([True, True, True, False])
VIEWS = torch.tensor([[0.1, 0.9, 0.0, 0.0]] * 3 + [[0.5, 0.5, 0.1, 0.0]])
HAS_VIEW = torch.tensor([True, False, True, True])


@pytest.fixture(scope="module", params=[False, True], ids=["joint", "split"])
def parts(request, tiny_base):
    base = load_base(str(tiny_base))
    settings = AdapterSettings(key_value_split=request.param)
    return Adapter.from_base(base, settings, torch.Generator().manual_seed(0)).eval(), base.text_encoder


def conditions(has_time=HAS_TIME, has_view=HAS_VIEW):
    return Conditions(torch.zeros(4, 17, 32), TIMES, has_time, VIEWS, has_view)


@pytest.mark.parametrize("max_tokens", [1, 1 << 14])
@torch.no_grad()
def test_the_table_holds_what_each_sample_would_get_alone(parts, max_tokens, monkeypatch):
    adapter, text_encoder = parts
    monkeypatch.setattr(control_table, "MAX_TOKENS", max_tokens)
    table = tabulate(adapter, text_encoder, conditions(), TIMESTEPS, lambda_=0.7, truncation=16)
    assert table is not None
    assert {kind: words.values.shape[:2] for kind, words in table.words.items()} == {"time": (3, 2), "view": (3, 2)}
    assert table.seen.tolist() == [[True, True], [True, False], [True, True], [False, True]]
    for step, t in enumerate(TIMESTEPS):
        keep = torch.full((4,), 16)
        expected = adapter.control_tokens(text_encoder, conditions(), t.expand(4), 0.7, keep)
        values, keys = table.at(step)  # (B, num_layers, n, D)
        seen = table.seen[:, None, :, None]
        assert torch.allclose(values * seen, expected.values * seen, atol=1e-5)
        assert (keys is None) == (expected.keys is None)
        if keys is not None:
            assert torch.allclose(keys * seen, expected.keys * seen, atol=1e-5)


@torch.no_grad()
def test_kinds_that_nobody_has_take_no_token(parts):
    nobody = torch.zeros(4, dtype=torch.bool)
    adapter, text_encoder = parts
    assert tabulate(adapter, text_encoder, conditions(nobody, nobody), TIMESTEPS) is None
    table = tabulate(adapter, text_encoder, conditions(has_view=nobody), TIMESTEPS)
    assert table is not None and list(table.words) == ["time"] and table[1:3].seen.tolist() == [[True], [True]]


@torch.no_grad()
def test_a_truncation_below_the_width_changes_every_word(parts):
    adapter, text_encoder = parts
    width = adapter.config.settings.hidden_width
    whole, same, less, least = (
        tabulate(adapter, text_encoder, conditions(), TIMESTEPS, truncation=kept)
        for kept in (None, width, width // 2, 1)
    )
    assert whole is not None and same is not None and less is not None and least is not None
    for kind, words in whole.words.items():
        assert torch.equal(same.words[kind].values, words.values)
        for first, second in ((words, less.words[kind]), (less.words[kind], least.words[kind])):
            assert ((first.values - second.values).abs().amax(dim=-1) > 1e-4).all()  # (S, U, num_layers)
            if first.keys is not None and second.keys is not None:  # CLIP(v_base) comes from the same hidden units
                assert ((first.keys - second.keys).abs().amax(dim=-1) > 1e-4).all()
