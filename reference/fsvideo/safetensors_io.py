"""Read and write safetensors files: 8 bytes of header length, a JSON header, then the tensors' bytes."""

import json
import struct

import torch

# fmt: off
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8,
}
# fmt: on
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def save(path, tensors, metadata=None):
    """tensors: name -> torch tensor; metadata: name -> string. Wide types first, so that all bytes are aligned."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header, offset, chunks = {"__metadata__": metadata} if metadata else {}, 0, []
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        chunk = tensor.flatten().view(torch.uint8).numpy().tobytes()
        span = [offset, offset + len(chunk)]
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": span}
        chunks.append(chunk)
        offset += len(chunk)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def load(path):
    """-> (name -> tensor, metadata)."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    metadata, tensors = header.pop("__metadata__", {}), {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensor = torch.frombuffer(data, dtype=torch.uint8, offset=start + begin, count=end - begin)
        tensors[name] = tensor.view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata
