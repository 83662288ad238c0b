"""Where could a trained model be tied: how alike its namesakes are, against chance, and what sharing would save."""
