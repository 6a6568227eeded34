#!/usr/bin/env python3
"""dcp-reader.py DIR FILE: PyTorch's own HuggingFaceStorageReader loads the shards in DIR, to the tensors of FILE, whole and by halves.
Needs torch and safetensors. What is to be filled holds another pattern before, so that holes show.
SPDX-License-Identifier: Apache-2.0"""
import sys

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor.new_empty(0, dtype=torch.uint8)


def main(folder, file):
    want = load_file(file)
    there = dcp.HuggingFaceStorageReader(folder).read_metadata().state_dict_metadata
    assert there.keys() == want.keys()
    targets = {name: torch.empty_like(tensor) for name, tensor in want.items()}
    for name, tensor in targets.items():
        assert tuple(there[name].size) == tuple(tensor.shape) and there[name].properties.dtype == tensor.dtype, name
        raw(tensor).fill_(1 if tensor.dtype is torch.bool else 0xA5)
    dcp.load(targets, storage_reader=dcp.HuggingFaceStorageReader(folder), no_dist=True)
    for name, tensor in targets.items():
        assert torch.equal(raw(tensor), raw(want[name])), name
    for name, tensor in want.items():
        if not tensor.numel() or not tensor.dim():
            continue
        half = tensor.shape[0] // 2
        for begin, rows in (0, half), (half, tensor.shape[0] - half):
            chunk = ChunkStorageMetadata(torch.Size([begin] + [0] * (tensor.dim() - 1)), torch.Size([rows, *tensor.shape[1:]]))
            items = create_read_items_for_chunk_list(name, there[name], [chunk]) if rows else []
            assert sum(torch.Size(i.lengths).numel() for i in items) == (chunk.sizes.numel() if rows else 0), name


if __name__ == "__main__":
    main(*sys.argv[1:])
