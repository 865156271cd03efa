"""Attribute all rows with workers of dask-gateway: python explain.py GATEWAY MODEL DATA OUT.

The workers run an image with kanlens, and see MODEL, DATA and OUT under the same paths.
"""

import sys

from dask_gateway import Gateway

import kanlens
from kanlens import distributed

gateway, model, data, out = sys.argv[1:]
with Gateway(gateway).new_cluster(worker_cores=1, worker_memory=2) as cluster:
    cluster.adapt(minimum=2, maximum=64)
    distributed.attribute(
        kanlens.load(model), data, out, method="secant", workers=cluster.get_client()
    )
