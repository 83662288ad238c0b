"""What is said of weight tying, what was measured here, and what is the verdict by the claim's own rule?"""
