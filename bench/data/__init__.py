"""Where do examples come from, and how do they become batches?"""
