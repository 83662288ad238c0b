"""What is a network trained on and scored by? A run finds its task by name."""
