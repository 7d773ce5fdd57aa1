"""The text teacher: sentence embeddings of a BERT-like model, mean over tokens, as all-MiniLM-L6-v2 gives them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoModel

from synseg_model.files import write_whole

FILES = ("config.json", "model.safetensors", "tokenizer.json")
MOST_TOKENS = 32
KEPT_FILE = "teacher.safetensors"


@torch.inference_mode()
def embed(folder: Path, texts: Sequence[str], device: torch.device, batch: int = 1024) -> Tensor:
    """Embed texts with the teacher.

    Args:
        folder: config.json, tokenizer.json and model.safetensors as transformers reads them.
        texts: N phrases.
        device: where to compute.
        batch: texts computed at once.

    Returns:
        (N,D) float32 on `device`, of length 1.

    Raises:
        ValueError: a file of the teacher is missing.
    """
    _check(folder)
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_TOKENS)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    model = AutoModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    model = model.to(device, dtype).eval()
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # texts of one length need no padding
    result = torch.empty(len(ids), model.config.hidden_size, device=device)
    for start in tqdm(range(0, len(order), batch), desc="teacher", unit="batch", mininterval=2):
        rows = order[start : start + batch]
        tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids[i]) for i in rows], batch_first=True).to(device)
        lengths = torch.tensor([len(ids[i]) for i in rows], device=device)
        mask = torch.arange(tokens.shape[1], device=device) < lengths[:, None]  # (B,L)
        hidden = model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state.float()  # (B,L,D)
        mean = (hidden * mask[:, :, None]).sum(dim=1) / lengths[:, None]
        result[torch.tensor(rows, device=device)] = F.normalize(mean, dim=-1)
    return result


def embed_once(folder: Path, texts: Sequence[str], device: torch.device, kept: Path) -> Tensor:
    """Embed texts with the teacher, or read what an earlier run kept in the folder `kept` for the same texts."""
    _check(folder)
    path = Path(kept) / KEPT_FILE
    key = f"{zlib.crc32(chr(10).join(texts).encode('utf-8'))}-{(Path(folder) / FILES[1]).stat().st_size}"
    if path.is_file():
        tensors = load_file(path)
        if key in tensors:
            return tensors[key].to(device).float()
    embedded = embed(folder, texts, device).half()
    data = save({key: embedded.cpu()})
    write_whole(path, lambda file: file.write(data))
    return embedded.float()  # rounded as a later run reads it


def _check(folder: Path) -> None:
    missing = [name for name in FILES if not (Path(folder) / name).is_file()]
    if missing:
        raise ValueError(f"--teacher {folder}: no {missing[0]} there. A teacher is a folder with {', '.join(FILES)}.")


def targets(embedded: Tensor, mean: Tensor, groups: Sequence[Sequence[int]], alpha: float) -> Tensor:
    """Turn the teacher's embeddings into what the student learns; synonyms are pulled together.

    The target of a text t with synonyms S, t among them, is normalise(c(t) + alpha * mean of c(s) over S), where
    c(t) = normalise(teacher(t) - mean). Without synonyms it is c(t).

    Args:
        embedded: (M,D) the teacher's embeddings.
        mean: (D,) subtracted from all.
        groups: N lists of rows of `embedded`: first the text itself, then its synonyms.
        alpha: strength of the pull; 0 is none.

    Returns:
        (N,D) of length 1.
    """
    centred = F.normalize(embedded - mean, dim=-1)
    device = embedded.device
    own = centred[torch.tensor([group[0] for group in groups], device=device)]
    lengths = torch.tensor([len(group) for group in groups], device=device)
    members = torch.tensor([row for group in groups for row in group], device=device)
    owner = torch.repeat_interleave(torch.arange(len(groups), device=device), lengths)
    total = torch.zeros_like(own).index_add_(0, owner, centred[members])
    return F.normalize(own + alpha * total / lengths[:, None], dim=-1)
