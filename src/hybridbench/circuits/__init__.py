"""What is trained: embeddings, ansätze, the QNodes made of them, and what is known about them before training."""
