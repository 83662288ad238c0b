"""Models that the tests of the advisor ask about."""

from torch import nn

from bench.models.cnn import ResNet
from bench.models.gru import GRULanguageModel


def gru():
    return GRULanguageModel(vocab_size=2000, width=64, depth=4)


def wide():
    return GRULanguageModel(vocab_size=2000, width=512, depth=4)


def convolutions():
    return ResNet(in_channels=1, num_classes=10, depth=6, width=8)


def headless():
    """A stack of GRUs without an embedding."""
    return nn.ModuleList(nn.GRU(8, 8) for _ in range(3))


def flat():
    return nn.Linear(4, 4)


class Plain(nn.Module):
    """A language model as people write it: nothing in it says where its parts are."""

    def __init__(self, depth, outputs=2000, vocab_size=2000, width=64):
        super().__init__()
        self.encoder = nn.Embedding(vocab_size, width)
        self.rnn = nn.GRU(width, width, num_layers=depth, batch_first=True, dropout=0.25 if depth > 1 else 0)
        self.decoder = nn.Linear(width, outputs)

    def forward(self, tokens):
        return self.decoder(self.rnn(self.encoder(tokens))[0])


def plain():
    return Plain(4)


def plain_of_one_layer():
    return Plain(1)


def of_sentences():
    return Plain(2, outputs=3)


def of_one_word():
    return Plain(2, outputs=1, vocab_size=1)


class Own(Plain):
    """The same, as a task of the bench trains it."""

    def __init__(self, vocab_size, dropout, depth, width):
        super().__init__(depth, outputs=vocab_size, vocab_size=vocab_size, width=width)


class Convolved(nn.Module):
    """A language model without recurrence and attention."""

    def __init__(self, vocab_size, dropout, depth, width):
        super().__init__()
        self.encoder = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(depth))
        self.decoder = nn.Linear(width, vocab_size)


class Adaptive(nn.Module):
    """One whose logits come about by more than one layer."""

    def __init__(self, vocab_size, dropout, depth, width):
        super().__init__()
        self.encoder = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(width, 2, width) for _ in range(depth))
        self.project = nn.Linear(width, 8)


def without_a_head():
    """A transformer that reads words; what it predicts is not in it."""
    model = Adaptive(100, 0.0, 4, 32)
    del model.project
    return model
