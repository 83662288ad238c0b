"""Where a trained model could be tied: how alike its namesakes are, against chance, and what sharing would save."""
