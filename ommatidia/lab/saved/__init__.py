"""What is done with a saved model folder: evaluate, score, chat, convert, other harnesses."""
