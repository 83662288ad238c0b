"""What does a run leave on disk, who may work on it, and how are its processes started?"""
