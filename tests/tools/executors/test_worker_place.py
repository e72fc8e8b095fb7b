"""What a worker in a container gets of this machine."""

from __future__ import annotations

from pathlib import Path

import bwdeploy
import bwdeploy_kernels
from bwdeploy.places import shipped_plugins
from bwdeploy.tools.executors.executor import container_executor
from bwdeploy.tools.executors.settings import ContainerSettings, ExecutorSettings


def test_a_worker_in_a_container_has_the_packages_and_the_sources_of_kernels() -> None:
    settings = ExecutorSettings(container=ContainerSettings(worker_image="workers:1"))
    place = container_executor(settings).workers
    packages = [Path(str(package.__file__)).parent for package in (bwdeploy, bwdeploy_kernels)]
    assert {*packages, shipped_plugins()} <= set(place.reads)
    assert {str(package.parent) for package in packages} <= set(place.environment["PYTHONPATH"].split(":"))
