"""A training step of a language model on random words, with our output layer in bfloat16."""

import torch
from torch import Tensor, nn

from bench.cross_entropy import linear_cross_entropy
from bench.measure.memory import peak_bytes


class WordStep:
    """Takes the same step again at each call. autocast: bfloat16 around the layers below the output too."""

    def __init__(
        self,
        model: nn.Module,
        vocabulary: int,
        batch: int,
        window: int,
        device: torch.device,
        autocast: bool = False,
    ) -> None:
        self.model = model.train().to(device)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
        words = torch.randint(vocabulary, (batch, window + 1), generator=torch.Generator().manual_seed(0))
        self.inputs, self.targets = words[:, :-1].to(device), words[:, 1:].flatten().to(device)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=autocast)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast:
            loss = self._loss()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def _loss(self) -> Tensor:
        layer, hidden = self.model.output_layer, self.model.hidden(self.inputs)[0].flatten(0, 1)
        return linear_cross_entropy(hidden, layer.weight, layer.bias, self.targets, torch.bfloat16)

    def num_params(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def peak_bytes(self) -> int:
        return peak_bytes(self.model, self.optimizer, self, [self.inputs, self.targets])["total"]
