"""What is one run? Its checked config, its tying choice, its identity, its label and the code it is made of."""
