"""What is steered, how it is said, and how it travels between kernel and browser: for the live lab and the panel."""
