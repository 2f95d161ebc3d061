"""Preloaded by a Dask worker of the tests: its code is taken for another version."""

import os

from explorer.services import cluster


def dask_setup(worker: object) -> None:
    cluster.code_version = lambda: os.environ["PRETENDED_VERSION"]
