"""The data stages on a Ray cluster of two nodes write the same bytes as one process."""

import hashlib
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from stage_runs import STAGES, digests, run_stage, write_scenes

from fourdistill.storage.fanout import fan_out

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")


@pytest.fixture(scope="module")
def cluster(monkeypatch_module):
    monkeypatch_module.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Set before Ray is imported: its servers then listen only on 127.0.0.1, as on systems other than Linux.
    monkeypatch_module.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80_000_000}
    made = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    made.add_node(**node)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_both_nodes_work(cluster):
    def node_id(_):  # a local function is pickled by value: the workers cannot import the tests
        import ray

        time.sleep(0.2)  # long enough to need both nodes
        return ray.get_runtime_context().get_node_id()

    nodes = fan_out(node_id, iter(range(8)), engine="ray", jobs=-1, description="where", total=8)
    assert len(nodes) == 8 and len(set(nodes)) == 2


@pytest.fixture(scope="module")
def here(tiny_base, tmp_path_factory):
    """A folder with the outputs of one local process. Read only."""
    folder = tmp_path_factory.mktemp("here")
    write_scenes(folder)
    for stage in STAGES:
        run_stage(stage, folder, str(tiny_base))
    return folder


def test_a_cluster_writes_the_same_bytes(cluster, here, tiny_base, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "raw").symlink_to(here / "raw")
    monkeypatch.chdir(tmp_path)  # relative paths must work in the workers
    for stage in STAGES:
        run_stage(stage, Path("there"), str(tiny_base), engine="ray", jobs=-1)
        assert digests(Path("there"), stage) == digests(here, stage), stage


def test_a_cluster_writes_to_an_address(cluster, here, tiny_base, tmp_path):
    """The workers get the output folder only as an address."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "raw").symlink_to(here / "raw")
    address = f"local://{tmp_path}/bucket"  # workers in other processes see the same store
    for stage in STAGES:
        run_stage(stage, tmp_path / "there", str(tiny_base), engine="ray", jobs=-1, at=address)
    local = {name: digest for stage in STAGES for name, digest in digests(here, stage).items()}
    written = {
        str(path.relative_to(tmp_path / "bucket")): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "bucket").rglob("*.*")
    }
    assert written.pop("frames/index.json") and written.pop("features/index.json")  # local folders have none
    assert written == {name: digest for name, digest in local.items() if "/" in name}
