"""The config files of configs/accelerate, read and used by accelerate itself."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from imports import ROOT

FOLDER = ROOT / "configs" / "accelerate"
EXPECTED = {  # name => distributed_type, num_processes, num_machines
    "eight_gpus": (DistributedType.MULTI_GPU, 8, 1),
    "eight_gpus_sharded": (DistributedType.FSDP, 8, 1),
    "nodes": (DistributedType.MULTI_GPU, 16, 2),
    "one_gpu": (DistributedType.NO, 1, 1),
    "two_cpu_processes": (DistributedType.MULTI_GPU, 2, 1),
}
PROGRAM = """
import json, sys
import torch
from fourdistill.training.runtime.tracking import start_accelerator

accelerator = start_accelerator("no")
ranks = accelerator.gather(torch.tensor([accelerator.process_index + 1])).tolist()
facts = {"processes": accelerator.num_processes, "type": accelerator.distributed_type.value, "ranks": ranks}
if accelerator.is_main_process:
    with open(sys.argv[1], "w") as file:
        json.dump(facts | {"device": accelerator.device.type, "precision": accelerator.mixed_precision}, file)
accelerator.end_training()
"""


def test_every_file_is_known_here():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_reads_what_the_name_says(name):
    config: Any = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert (config.distributed_type, config.num_processes, config.num_machines) == EXPECTED[name]
    assert config.use_cpu == ("cpu" in name)
    assert config.mixed_precision == "no"  # train.compute.mixed_precision decides


def test_accelerate_starts_two_processes_on_the_processor(tmp_path):
    program, written = tmp_path / "program.py", tmp_path / "facts.json"
    program.write_text(PROGRAM)
    config = str(FOLDER / "two_cpu_processes.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config, str(program), str(written)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    facts = json.loads(written.read_text())
    assert facts == {"processes": 2, "type": "MULTI_CPU", "ranks": [1, 2], "device": "cpu", "precision": "no"}
