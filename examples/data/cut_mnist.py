#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cuts a small data set from MNIST, Fashion-MNIST or another with their files.

Takes the first images of each class and keeps them in the order of the original file. The output
is the same byte for byte at every run.

  cut_mnist.py SOURCE_DIR OUTPUT_DIR

SOURCE_DIR holds the four original files, compressed with gzip.
"""
import gzip
import os
import struct
import sys

CLASSES = 10
PARTS = (("train", 250), ("t10k", 50))  # name of the part, images kept of each class


def read_idx(path, rank):
    with gzip.open(path, "rb") as f:
        data = f.read()
    magic, *dims = struct.unpack_from(f">{1 + rank}i", data)
    if magic != 0x0800 + rank:
        sys.exit(f"{path}: magic number {magic:#x}, expected {0x0800 + rank:#x}")
    return dims, data[4 * (1 + rank):]


def write_idx(path, dims, data):
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as f:
        f.write(struct.pack(f">{1 + len(dims)}i", 0x0800 + len(dims), *dims))
        f.write(data)


def cut(source, output, part, per_class):
    images_name = f"{part}-images-idx3-ubyte.gz"
    labels_name = f"{part}-labels-idx1-ubyte.gz"
    (count, rows, cols), images = read_idx(os.path.join(source, images_name), 3)
    (label_count,), labels = read_idx(os.path.join(source, labels_name), 1)
    if count != label_count:
        sys.exit(f"{part}: {count} images but {label_count} labels")
    seen = [0] * CLASSES
    kept = []
    for i, label in enumerate(labels):
        if seen[label] < per_class:
            seen[label] += 1
            kept.append(i)
    if seen != [per_class] * CLASSES:
        sys.exit(f"{part}: too few images of a class: {seen}")
    size = rows * cols
    write_idx(os.path.join(output, images_name), (len(kept), rows, cols),
              b"".join(images[i * size:(i + 1) * size] for i in kept))
    write_idx(os.path.join(output, labels_name), (len(kept),), bytes(labels[i] for i in kept))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    for part, per_class in PARTS:
        cut(sys.argv[1], sys.argv[2], part, per_class)


if __name__ == "__main__":
    main()
